// The logistic function 1 / (1 + exp(-x)), computed from exp(-|x|), which cannot overflow. sigmoid, tanh and gelu are
// built on it: the tanh() of some drivers overflows, and WGSL has no erf().
//
// Provides: logistic.
// Needs: is_nan.
fn logistic(x: vec4<f32>) -> vec4<f32> {
    let e = exp(-abs(x));
    let positive = 1.0 / (1.0 + e);
    let result = select(positive, e * positive, x < vec4<f32>(0.0));
    return select(result, x, is_nan(x)); // keeps NaN, which the exp() of some drivers turns into a number
}
