// Whether numbers are NaN, told by their bits: drivers may take comparisons for those of numbers, and turn what
// selects by them into max(), which drops a NaN.
//
// Provides: is_nan, is_negative.
fn is_nan(values: vec4<f32>) -> vec4<bool> {
    return (bitcast<vec4<u32>>(values) & vec4<u32>(0x7fffffffu)) > vec4<u32>(0x7f800000u);
}

// True for numbers below 0, and never for NaN.
fn is_negative(values: vec4<f32>) -> vec4<bool> {
    return (values < vec4<f32>(0.0)) & !is_nan(values);
}
