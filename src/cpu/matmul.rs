//! Matrix products, by the `gemm` library on one thread.

use std::ops::Range;

use gemm_common::Parallelism;

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

/// `out = keep · out + scale · a · b`, for the first `b.columns` columns of `out`, `[a.rows, out_stride]`.
#[allow(unsafe_code)] // the library takes pointers
pub fn matmul(out: &mut [f32], out_stride: usize, keep: f32, scale: f32, a: Matrix, b: Matrix) {
    let (m, k, n) = (a.rows, a.columns, b.columns);
    let last = |matrix: &Matrix| (matrix.rows - 1) * matrix.row_stride + (matrix.columns - 1) * matrix.column_stride;
    assert!(m > 0 && k > 0 && n > 0 && k == b.rows && n <= out_stride && (m - 1) * out_stride + n <= out.len());
    assert!(last(&a) < a.values.len() && last(&b) < b.values.len());
    // A factor, as the library wants it: pointer, stride between columns, stride between rows.
    let factor = |x: Matrix| (x.values.as_ptr(), x.column_stride as isize, x.row_stride as isize);
    let product = gemm_f32::gemm::f32::get_gemm_fn();
    let mut call = |m, n, out_strides: (isize, isize), left: Matrix, right: Matrix| {
        let ((left, left_columns, left_rows), (right, right_columns, right_rows)) = (factor(left), factor(right));
        // SAFETY: every element of the three matrices lies within its slice, as asserted above; the borrows see to
        // it that `out` overlaps neither factor, and the strides that no two of its elements are one.
        unsafe {
            product(
                m,
                n,
                k,
                out.as_mut_ptr(),
                out_strides.0,
                out_strides.1,
                keep != 0.0,
                left,
                left_columns,
                left_rows,
                right,
                right_columns,
                right_rows,
                keep,
                scale,
                false,
                false,
                false,
                Parallelism::None,
            );
        }
    };
    // The lanes of a vector hold the left factor's rows, which had better lie side by side in memory. As `b`'s columns
    // mostly do, the product is turned round: outᵀ = bᵀ · aᵀ.
    if b.column_stride == 1 {
        call(n, m, (out_stride as isize, 1), b.transposed(), a.transposed());
    } else {
        call(m, n, (1, out_stride as isize), a, b);
    }
}
