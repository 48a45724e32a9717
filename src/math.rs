//! Functions of one f32 that compile to vector instructions where a loop calls them.

/// 1 / (1 + e^−x), from e^−|x|, which cannot overflow.
#[inline(always)]
pub fn logistic(x: f32) -> f32 {
    let e = exp(-x.abs());
    let positive = 1.0 / (1.0 + e);
    if x < 0.0 { e * positive } else { positive }
}

/// e^x for x ≤ 0, within 2 units in the last place; 0 where that is below 1e-37. Unlike the standard library's, a loop
/// over it compiles to vector instructions. The polynomial is that of `expf` in the Cephes library.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // e^x = 2^n · e^r: adding 1.5 · 2^23 rounds x / ln 2 to the integer n and leaves it in the lowest bits. ln 2 is in
    // two parts, of which the first has few enough digits that n times it is exact.
    const ROUND: f32 = 12_582_912.0;
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = (x - n * 0.693_359_4) + n * 2.121_944_4e-4;
    // No loop over the coefficients: where little is inlined, as for a page, it would stay one, with calls.
    let p = ((1.987_569_1e-4 * r + 1.398_199_9e-3) * r + 8.333_452e-3) * r + 4.166_579_6e-2;
    let p = (p * r + 1.666_666_5e-1) * r + 0.5;
    let power = f32::from_bits((rounded.to_bits() << 23).wrapping_add(1.0f32.to_bits()));
    // A NaN is not below, and stays one.
    if x < -85.0 { 0.0 } else { (p * (r * r) + r + 1.0) * power }
}
