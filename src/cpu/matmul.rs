//! Matrix products, by the kernels of the `gemm` library on one thread, in one order of summation.
//!
//! Each element of a product is a sum over `k`, in blocks of at most [`DEPTH`] terms of which each is one chain of fused
//! multiply-adds. Neither the shape of the product, nor how its rows are dealt out, nor the width of the vectors changes
//! that order: AVX2 and AVX-512 give the same bits. The library by itself would cut `k` by the size of the caches, and has
//! paths for small products that sum in the lanes of a vector.

use std::ops::Range;

use gemm_common::Parallelism;

use super::workers::{Arch, arch};

/// Upper limit of the terms of a sum that are added up before the next block of them. The library never cuts so few.
const DEPTH: usize = 512;

/// Sums of a product of one column that go on side by side.
const LANES: usize = 16;

/// Rows and columns that [`transpose`] moves at a time.
const TILE: usize = 8;

/// A matrix in memory that someone else owns.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    values: &'a [f32],
    pub rows: usize,
    pub columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// The first rows of a row-major buffer.
    pub fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        Self { values: &values[..rows * columns], rows, columns, row_stride: columns, column_stride: 1 }
    }

    pub fn transposed(self) -> Self {
        let Self { values, rows, columns, row_stride, column_stride } = self;
        Self { values, rows: columns, columns: rows, row_stride: column_stride, column_stride: row_stride }
    }

    pub fn rows(self, rows: Range<usize>) -> Self {
        assert!(rows.start < rows.end && rows.end <= self.rows);
        Self { values: &self.values[rows.start * self.row_stride..], rows: rows.len(), ..self }
    }
}

/// A factor as the library takes it: pointer, stride between columns, stride between rows.
type Factor = (*const f32, isize, isize);

/// `out = keep · out + scale · left · right`, for `[m, n]` and `k` of at most [`DEPTH`], with the kernels of one
/// instruction set.
///
/// # Safety
/// The three matrices lie in memory that may be read, and `out` in memory that nobody else uses.
#[allow(unsafe_code)] // the library takes pointers
unsafe fn product(
    arch: Arch,
    [m, n, k]: [usize; 3],
    (out, out_columns, out_rows): (*mut f32, isize, isize),
    left: Factor,
    right: Factor,
    keep: f32,
    scale: f32,
) {
    // For real numbers conjugation is nothing, but the library's paths for small products do not take a conjugated result.
    let conjugate_result = true;
    #[cfg(any(target_arch = "x86", target_arch = "x86_64", target_arch = "wasm32"))]
    {
        use gemm_common::gemm::gemm_basic_generic;
        use gemm_common::simd::{MixedSimd, Scalar};
        use gemm_f32::microkernel;
        macro_rules! call {
            ($simd:ty, $kernels:ident, $lanes:literal) => {{
                use microkernel::$kernels::f32::{H_M, H_N, H_UKR, MR_DIV_N, NR, UKR};
                if let Some(simd) = <$simd as MixedSimd<f32, f32, f32, f32>>::try_new() {
                    // SAFETY: as the caller promises.
                    return unsafe {
                        gemm_basic_generic::<_, f32, $lanes, { MR_DIV_N * $lanes }, NR, MR_DIV_N, H_M, H_N>(
                            simd,
                            m,
                            n,
                            k,
                            out,
                            out_columns,
                            out_rows,
                            keep != 0.0,
                            left.0,
                            left.1,
                            left.2,
                            right.0,
                            right.1,
                            right.2,
                            keep,
                            scale,
                            conjugate_result,
                            false,
                            false,
                            |a, b, c| a * b + c,
                            &UKR,
                            &H_UKR,
                            false,
                            Parallelism::None,
                        )
                    };
                }
            }};
        }
        #[cfg(not(target_arch = "wasm32"))]
        match arch {
            Arch::V4(_) => call!(gemm_common::simd::V4, avx512f, 16),
            Arch::V3(_) => call!(gemm_common::simd::V3, fma, 8),
            _ => call!(Scalar, scalar, 1),
        }
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        call!(Scalar, simd128, 4);
        #[cfg(all(target_arch = "wasm32", not(target_feature = "simd128")))]
        call!(Scalar, scalar, 1);
    }
    let _ = arch; // elsewhere the library knows one set of kernels
    // SAFETY: as the caller promises.
    unsafe {
        gemm_f32::gemm::f32::get_gemm_fn()(
            m,
            n,
            k,
            out,
            out_columns,
            out_rows,
            keep != 0.0,
            left.0,
            left.1,
            left.2,
            right.0,
            right.1,
            right.2,
            keep,
            scale,
            conjugate_result,
            false,
            false,
            Parallelism::None,
        );
    }
}

/// `out = keep · out + scale · a · b`, for the first `b.columns` columns of `out`, `[a.rows, out_stride]`.
#[allow(unsafe_code)] // the library takes pointers
pub fn matmul(out: &mut [f32], out_stride: usize, keep: f32, scale: f32, a: Matrix, b: Matrix) {
    let (m, k, n) = (a.rows, a.columns, b.columns);
    let last = |matrix: &Matrix| (matrix.rows - 1) * matrix.row_stride + (matrix.columns - 1) * matrix.column_stride;
    assert!(m > 0 && k > 0 && n > 0 && k == b.rows && n <= out_stride && (m - 1) * out_stride + n <= out.len());
    assert!(last(&a) < a.values.len() && last(&b) < b.values.len());
    let arch = arch();
    if n == 1 && b.row_stride == 1 && (a.column_stride == 1 || a.row_stride == 1) {
        return matvec(arch, out, out_stride, keep, scale, a, &b.values[..k]);
    }
    // The lanes of a vector hold the left factor's rows, which had better lie side by side in memory. As `b`'s columns
    // mostly do, the product is turned round: outᵀ = bᵀ · aᵀ.
    let turned = b.column_stride == 1;
    let out = out.as_mut_ptr();
    let blocks = k.div_ceil(DEPTH);
    for block in 0..blocks {
        let depth = block * k / blocks..(block + 1) * k / blocks;
        let keep = if block == 0 { keep } else { 1.0 };
        let (a_values, b_values) =
            (&a.values[depth.start * a.column_stride..], &b.values[depth.start * b.row_stride..]);
        let (a_stride, b_stride) = (a.column_stride as isize, b.row_stride as isize);
        let (a_rows, b_columns) = (a.row_stride as isize, b.column_stride as isize);
        // SAFETY: every element of the three matrices lies within its slice, as asserted above; the borrows see to
        // it that `out` overlaps neither factor, and the strides that no two of its elements are one.
        unsafe {
            if turned {
                let (left, right) = ((b_values.as_ptr(), b_stride, b_columns), (a_values.as_ptr(), a_rows, a_stride));
                product(arch, [n, m, depth.len()], (out, out_stride as isize, 1), left, right, keep, scale);
            } else {
                let (left, right) = ((a_values.as_ptr(), a_stride, a_rows), (b_values.as_ptr(), b_columns, b_stride));
                product(arch, [m, n, depth.len()], (out, 1, out_stride as isize), left, right, keep, scale);
            }
        }
    }
}

/// Writes a column-major matrix row by row.
pub fn transpose(arch: Arch, matrix: Matrix, out: &mut [f32]) {
    let Matrix { values, rows, columns, row_stride, column_stride } = matrix;
    assert!(row_stride == 1 && out.len() == rows * columns);
    arch.dispatch(
        #[inline(always)]
        || {
            for first_row in (0..rows).step_by(TILE) {
                for first in (0..columns).step_by(TILE) {
                    let from = values[first * column_stride + first_row..].chunks(column_stride);
                    let to = out[first_row * columns + first..].chunks_mut(columns);
                    let (height, width) = (TILE.min(rows - first_row), TILE.min(columns - first));
                    // With constants whole tiles stay in registers.
                    if (height, width) == (TILE, TILE) {
                        transpose_tile(from, to, TILE, TILE);
                    } else {
                        transpose_tile(from, to, height, width);
                    }
                }
            }
        },
    );
}

/// Transposes a tile of `width` slices with `height` numbers each, neither above [`TILE`].
#[inline(always)]
fn transpose_tile<'a>(
    from: impl Iterator<Item = &'a [f32]>,
    to: impl Iterator<Item = &'a mut [f32]>,
    height: usize,
    width: usize,
) {
    let mut tile = [[0.0; TILE]; TILE];
    tile.iter_mut().zip(from.take(width)).for_each(|(tile, from)| tile[..height].copy_from_slice(&from[..height]));
    for (row, to) in to.take(height).enumerate() {
        to[..width].iter_mut().zip(&tile).for_each(|(to, tile)| *to = tile[row]);
    }
}

/// [`matmul`] for one column, of which the library's kernels would fill one lane of many. It sums in [`LANES`] lanes
/// whatever the width of the vectors.
fn matvec(arch: Arch, out: &mut [f32], out_stride: usize, keep: f32, scale: f32, a: Matrix, b: &[f32]) {
    let finish = |out: &mut f32, sum: f32| *out = if keep == 0.0 { 0.0 } else { keep * *out } + scale * sum;
    let rows = out.chunks_mut(out_stride).map(|row| &mut row[0]).take(a.rows);
    arch.dispatch(
        #[inline(always)]
        || {
            if a.column_stride == 1 {
                for (out, row) in rows.zip(a.values.chunks(a.row_stride)) {
                    finish(out, dot(&row[..b.len()], b));
                }
                return;
            }
            let mut rows = rows;
            for first in (0..a.rows).step_by(LANES) {
                let mut total = [0.0; LANES];
                for (block, b) in b.chunks(DEPTH).enumerate() {
                    let columns = a.values[block * DEPTH * a.column_stride..].chunks(a.column_stride);
                    let mut sums = [0.0; LANES];
                    for (column, b) in columns.zip(b) {
                        let column = &column[first..];
                        match column.first_chunk::<LANES>() {
                            Some(column) => sums.iter_mut().zip(column).for_each(|(sum, value)| *sum += value * b),
                            None => sums.iter_mut().zip(column).for_each(|(sum, value)| *sum += value * b),
                        }
                    }
                    total.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
                }
                rows.by_ref().take(LANES).zip(total).for_each(|(out, sum)| finish(out, sum));
            }
        },
    );
}

/// Σ aᵢ bᵢ, in lanes.
#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; LANES];
    let ((a, last_a), (b, last_b)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in a.iter().zip(b) {
        sums.iter_mut().zip(a.iter().zip(b)).for_each(|(sum, (a, b))| *sum += a * b);
    }
    sums.iter_mut().zip(last_a.iter().zip(last_b)).for_each(|(sum, (a, b))| *sum += a * b);
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matrices_of_any_size_are_transposed() {
        for (rows, columns) in [(1, 1), (1, 9), (7, 8), (8, 7), (8, 8), (9, 17), (24, 16), (33, 5)] {
            let number = |row: usize, column: usize| (row * columns + column) as f32;
            // A column more at its side, which is not its own.
            let stride = rows + 1;
            let values: Vec<f32> = (0..columns * stride).map(|at| number(at % stride, at / stride)).collect();
            let matrix = Matrix::new(&values, columns, stride).transposed().rows(0..rows);
            let mut out = vec![f32::NAN; rows * columns];
            transpose(arch(), matrix, &mut out);
            let expected: Vec<f32> = (0..rows * columns).map(|at| number(at / columns, at % columns)).collect();
            assert_eq!(out, expected, "{rows} x {columns}");
        }
    }
}
