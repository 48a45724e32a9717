//! Matrix products: the ways to compute one, and how much of the result a workgroup makes.

use super::super::kernel::{Grid, shader};

/// A way to multiply matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Matmul {
    /// Registers only; for any adapter.
    Plain,
    /// Tiles in workgroup memory, for hardware GPUs.
    Workgroup,
    /// Broadcasts within a subgroup of at least 8 lanes, for software adapters.
    Subgroup,
    /// The same for products of at most 16 columns, where it takes the place of [`Matmul::Subgroup`].
    Narrow,
}

impl Matmul {
    /// Every way.
    pub const ALL: [Self; 4] = [Self::Plain, Self::Workgroup, Self::Subgroup, Self::Narrow];

    /// The way for a product with this many columns of which each row may be one invocation's.
    pub(super) fn for_columns(self, columns: usize) -> Self {
        if self == Self::Subgroup && columns <= 16 { Self::Narrow } else { self }
    }

    /// Its files; `fused` is whether another file says what follows a narrow product.
    pub(super) fn files(self, fused: bool) -> Vec<&'static str> {
        let mut files = vec![shader!("matmul")];
        files.extend(match self {
            Self::Plain => vec![shader!("matmul_plain")],
            Self::Workgroup => vec![shader!("matmul_workgroup")],
            Self::Subgroup => vec![shader!("broadcast"), shader!("matmul_subgroup")],
            Self::Narrow => vec![shader!("broadcast"), shader!("matmul_narrow")],
        });
        if self == Self::Narrow && !fused {
            files.push(shader!("finish_nothing"));
        }
        files
    }

    /// Workgroups for a result of `rows` by `columns` blocks.
    fn workgroups(self, rows: u32, columns: u32) -> [u32; 2] {
        let (tile_rows, tile_columns) = match self {
            Self::Plain => (16, 8),
            Self::Workgroup => (16, 16),
            Self::Subgroup => (8, 8),
            Self::Narrow => (8, columns),
        };
        [columns.div_ceil(tile_columns), rows.div_ceil(tile_rows)]
    }

    /// Grid of a product with a row for each example of the batch.
    pub(super) fn grid_of_batch(self, column_blocks: usize) -> Grid {
        Box::new(move |batch| self.workgroups(batch.div_ceil(4), column_blocks as u32))
    }

    /// Grid of a product whose size is always the same.
    pub(super) fn grid(self, row_blocks: usize, column_blocks: usize) -> Grid {
        let workgroups = self.workgroups(row_blocks as u32, column_blocks as u32);
        Box::new(move |_| workgroups)
    }
}
