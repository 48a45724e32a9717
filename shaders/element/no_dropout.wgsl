// For element_wise.wgsl, where there is no dropout.
fn pass_on(values: vec4<f32>, pixel: u32, block: u32) -> vec4<f32> {
    return values;
}
