// Stores the gradient instead of an update, for gradient_norm.wgsl and clipped_update.wgsl.
//
// Provides: update.
@group(0) @binding(5) var<storage, read_write> gradient: array<vec4<f32>>; // [inputs + 1, outputs]

fn update(at: u32, d_weights: vec4<f32>) {
    gradient[at] = d_weights;
}
