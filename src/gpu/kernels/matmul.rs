//! Matrix products: the parts of a program for each way to compute one, and how much of the result a workgroup makes.

use super::super::kernel::Grid;
use super::super::matmul::Matmul;
use crate::shader::{Part, part};

/// The least depth, in blocks, that the groups of `matmul/workgroup.wgsl` share.
const GROUPS_DEPTH: usize = 32;

/// Workgroups along a side that every adapter allows.
const GRID_ROWS: u32 = 65_535;

/// Block columns of a tile of `matmul/workgroup.wgsl`.
fn tile_columns(columns: u32) -> u32 {
    if columns <= 4 { 4 } else { 8 }
}

impl Matmul {
    /// The way for a product with this many columns of which each row may be one invocation's.
    pub(super) fn for_columns(self, columns: usize) -> Self {
        if self == Self::Subgroup && columns <= 16 { Self::Narrow } else { self }
    }

    /// The way for a product of which each row is a window of an image.
    pub(super) fn for_windows(self) -> Self {
        if self == Self::Subgroup { Self::Sliding } else { self }
    }

    /// The way for the gradient of a convolution by its weights.
    pub(super) fn for_sums_of_windows(self) -> Self {
        if self == Self::Subgroup { Self::SlidingSums } else { self }
    }

    /// Returns the parts of the program; `fused` is true if another part is the epilogue of a narrow product.
    pub(super) fn parts(self, fused: bool) -> Vec<Part> {
        let mut parts = vec![part!("matmul/product")];
        parts.extend(match self {
            Self::Plain => vec![part!("matmul/plain")],
            Self::Workgroup => vec![part!("matmul/workgroup")],
            Self::Subgroup => vec![part!("matmul/broadcast"), part!("matmul/subgroup")],
            Self::Narrow => vec![part!("matmul/broadcast"), part!("matmul/narrow")],
            Self::Sliding => vec![part!("matmul/sliding")],
            Self::SlidingSums => vec![part!("matmul/sliding_sums")],
        });
        if self == Self::Narrow && !fused {
            parts.push(part!("matmul/no_epilogue"));
        }
        parts
    }

    /// Workgroups for a result of `rows` by `columns` blocks.
    fn workgroups(self, rows: u32, columns: u32) -> [u32; 2] {
        let (tile_rows, tile_columns) = match self {
            Self::Plain => (16, 8),
            Self::Workgroup => (8, tile_columns(columns)),
            Self::Subgroup => (8, 8),
            Self::Narrow => (8, columns),
            Self::Sliding => (8, Sliding::columns(columns as usize) as u32), // rows are runs of pixels
            Self::SlidingSums => (1, 8),                                     // its grid is made by Sliding::sums
        };
        let [x, y] = [columns.div_ceil(tile_columns), rows.div_ceil(tile_rows)];
        // As the shader numbers its tiles, rows of the grid may be several rows of tiles each.
        let fold = if self == Self::Workgroup { y.div_ceil(GRID_ROWS) } else { 1 };
        [x.saturating_mul(fold), y.div_ceil(fold)]
    }

    /// The override constants of the way, for a result of so many block columns and a depth of so many blocks, if that is
    /// always the same.
    pub(super) fn constants(self, column_blocks: usize, depth: Option<usize>) -> Vec<(&'static str, f64)> {
        if self != Self::Workgroup {
            return Vec::new();
        }
        let groups = if depth.is_none_or(|depth| depth >= GROUPS_DEPTH) { 4 } else { 1 };
        vec![("TILE_COLUMNS", f64::from(tile_columns(column_blocks as u32))), ("GROUPS", f64::from(groups))]
    }

    /// Grid of a product with so many rows for each example of the batch.
    pub(super) fn grid_of_batch(self, rows: usize, column_blocks: usize) -> Grid {
        Box::new(move |batch| {
            let [x, y] = self.workgroups(batch.div_ceil(4).saturating_mul(rows as u32), column_blocks as u32);
            [x, y, 1]
        })
    }

    /// Grid of a product whose size is always the same, in so many parts of its depth.
    pub(super) fn grid(self, row_blocks: usize, column_blocks: usize, parts: usize) -> Grid {
        let [x, y] = self.workgroups(row_blocks as u32, column_blocks as u32);
        Box::new(move |_| [x, y, parts as u32])
    }
}

/// Windows that slide over images: the geometry that [`Matmul::Sliding`] and [`Matmul::SlidingSums`] are compiled for.
pub(super) struct Sliding {
    /// Rows of places.
    pub height: usize,
    /// Places in a row.
    pub width: usize,
    /// Blocks from a place to the next.
    pub column: usize,
    /// Rows of a window.
    pub rows: usize,
    /// Taps in a row of a window.
    pub taps: usize,
    /// Blocks of a tap.
    pub tap_blocks: usize,
    /// Blocks from a row of a window to the next.
    pub row_step: usize,
    /// Blocks from a tap to the next.
    pub tap_step: usize,
}

impl Sliding {
    /// Number of places side by side that an invocation takes: up to 8, so that runs of this length fill a row best.
    fn run(&self) -> usize {
        let runs = self.width.div_ceil(8);
        self.width.div_ceil(runs)
    }

    /// Block columns of a workgroup of [`Matmul::Sliding`].
    fn columns(column_blocks: usize) -> usize {
        if column_blocks <= 4 { 4 } else { 8 }
    }

    /// The override constants of `matmul/sliding.wgsl`, for so many block columns.
    pub fn constants(&self, column_blocks: usize) -> Vec<(&'static str, f64)> {
        let columns = Self::columns(column_blocks);
        [self.window_constants(), vec![("RUN", self.run() as f64), ("TILE_COLUMNS", columns as f64)]].concat()
    }

    fn window_constants(&self) -> Vec<(&'static str, f64)> {
        vec![
            ("KERNEL_ROWS", self.rows as f64),
            ("TAPS", self.taps as f64),
            ("TAP_BLOCKS", self.tap_blocks as f64),
            ("ROW_STEP", self.row_step as f64),
            ("TAP_STEP", self.tap_step as f64),
        ]
    }

    /// Grid of a product with so many block columns.
    pub fn grid(&self, column_blocks: usize) -> Grid {
        let runs = self.height * self.width.div_ceil(self.run());
        Box::new(move |batch| {
            let rows = batch.next_multiple_of(4).saturating_mul(runs as u32);
            let [x, y] = Matmul::Sliding.workgroups(rows, column_blocks as u32);
            [x, y, 1]
        })
    }

    /// The override constants of `matmul/sliding_sums.wgsl` for so many block columns, and the grid in so many parts of
    /// the depth.
    pub fn sums(&self, column_blocks: usize, parts: usize) -> (Vec<(&'static str, f64)>, Grid) {
        let lane_columns = if column_blocks <= 4 { 4 } else { 8 };
        let sharing = 8 / lane_columns;
        // The taps of four places that lie in the blocks that eight lanes load side by side; where there are fewer than
        // two, the lanes load two taps of each place.
        let unit = self.column.min(self.tap_step);
        let lanes = [self.column / unit, self.tap_step / unit];
        let is_even = self.column.is_multiple_of(unit) && self.tap_step.is_multiple_of(unit);
        let most_taps = if is_even && 3 * lanes[0] <= 7 { (7 - 3 * lanes[0]) / lanes[1] + 1 } else { 0 };
        let ([pixel_lanes, tap_lanes], most_taps) = if most_taps < 2 { ([1, 4], 2) } else { (lanes, most_taps) };
        let lane_taps = if self.taps <= most_taps { self.taps.div_ceil(sharing) } else { most_taps / sharing };
        let tap_tiles = self.taps.div_ceil(sharing * lane_taps);

        // The code for more than ten blocks of sums would not fit into a processor's cache of instructions.
        let strips = self.rows * self.tap_blocks;
        let most_strips = (10 / lane_taps).clamp(1, 5);
        let strip_tiles = strips.div_ceil(most_strips);
        let mut constants = self.window_constants();
        constants.extend([
            ("STRIPS", strips.div_ceil(strip_tiles) as f64),
            ("LANE_TAPS", lane_taps as f64),
            ("LANE_COLUMNS", lane_columns as f64),
            ("PIXEL_LANES", pixel_lanes as f64),
            ("TAP_LANES", tap_lanes as f64),
        ]);
        let grid = [column_blocks.div_ceil(lane_columns), strip_tiles * tap_tiles, parts].map(|size| size as u32);
        (constants, Box::new(move |_| grid))
    }
}
