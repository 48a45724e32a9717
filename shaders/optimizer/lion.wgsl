// Update of four adjacent parameters by Lion (Chen et al. 2023): a step of the same size for every parameter.
//
// Provides: update.
// Needs: step.
override BETA1: f32;
override BETA2: f32;
override REST1: f32; // 1 - BETA1, computed in f64
override REST2: f32;
override WEIGHT_DECAY: f32;

@group(0) @binding(5) var<storage, read_write> weights: array<vec4<f32>>; // [inputs + 1, outputs]
@group(0) @binding(6) var<storage, read_write> moment: array<vec4<f32>>; // [inputs + 1, outputs]

fn update(at: u32, d_weights: vec4<f32>) {
    let direction = sign(BETA1 * moment[at] + REST1 * d_weights);
    moment[at] = BETA2 * moment[at] + REST2 * d_weights;
    weights[at] -= step.learning_rate * (WEIGHT_DECAY * weights[at] + direction);
}
