// Update of four adjacent parameters by AdamW, as in torch.optim.AdamW: the weight decay is not part of the gradient.
//
// Provides: update.
// Needs: step.
override BETA1: f32;
override BETA2: f32;
override REST1: f32; // 1 - BETA1, computed in f64
override REST2: f32;
override EPSILON: f32;
override WEIGHT_DECAY: f32;

@group(0) @binding(5) var<storage, read_write> weights: array<vec4<f32>>; // [inputs + 1, outputs]
@group(0) @binding(6) var<storage, read_write> first_moment: array<vec4<f32>>; // [inputs + 1, outputs]
@group(0) @binding(7) var<storage, read_write> second_moment: array<vec4<f32>>; // [inputs + 1, outputs]

fn update(at: u32, d_weights: vec4<f32>) {
    let first = BETA1 * first_moment[at] + REST1 * d_weights;
    let second = BETA2 * second_moment[at] + REST2 * (d_weights * d_weights);
    first_moment[at] = first;
    second_moment[at] = second;
    let direction = step.moment_scales.x * first / (step.moment_scales.y * sqrt(second) + EPSILON);
    weights[at] -= step.learning_rate * (WEIGHT_DECAY * weights[at] + direction);
}
