//! Matrix products: the ways to compute one, and how much of the result a workgroup makes.

use super::super::kernel::Grid;
use crate::shader::{Part, part};

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

    /// Its parts; `fused` is whether another part is the epilogue of a narrow product.
    pub(super) fn parts(self, fused: bool) -> Vec<Part> {
        let mut parts = vec![part!("matmul/product")];
        parts.extend(match self {
            Self::Plain => vec![part!("matmul/plain")],
            Self::Workgroup => vec![part!("matmul/workgroup")],
            Self::Subgroup => vec![part!("matmul/broadcast"), part!("matmul/subgroup")],
            Self::Narrow => vec![part!("matmul/broadcast"), part!("matmul/narrow")],
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
            Self::Workgroup => (16, 16),
            Self::Subgroup => (8, 8),
            Self::Narrow => (8, columns),
        };
        [columns.div_ceil(tile_columns), rows.div_ceil(tile_rows)]
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
