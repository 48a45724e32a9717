// Update of four adjacent parameters by stochastic gradient descent, as in torch.optim.SGD.
//
// Provides: update.
// Needs: step.
override MOMENTUM: f32;
override NESTEROV: bool;
override WEIGHT_DECAY: f32;

@group(0) @binding(5) var<storage, read_write> weights: array<vec4<f32>>; // [inputs + 1, outputs]
@group(0) @binding(6) var<storage, read_write> velocity: array<vec4<f32>>; // [inputs + 1, outputs], with momentum

fn update(at: u32, d_weights: vec4<f32>) {
    let weight = weights[at];
    var direction = d_weights + WEIGHT_DECAY * weight;
    if MOMENTUM > 0.0 {
        let gradient = direction;
        direction = MOMENTUM * velocity[at] + gradient;
        velocity[at] = direction;
        if NESTEROV {
            direction = gradient + MOMENTUM * direction;
        }
    }
    weights[at] = weight - step.learning_rate * direction;
}
