// The identity in the place of dropout, for element_wise.wgsl.
//
// Provides: pass_on.
fn pass_on(values: vec4<f32>, pixel: u32, block: u32) -> vec4<f32> {
    return values;
}
