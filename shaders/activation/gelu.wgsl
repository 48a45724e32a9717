// GELU in its tanh form (Hendrycks and Gimpel 2016), z (1 + tanh(u / 2)) / 2 = z logistic(u) with u = sqrt(8 / pi) (z +
// 0.044715 z^3), and its gradient. Two values of z can give the same output, so forward keeps z.
//
// Provides: activate, activate_backward.
// Needs: logistic.
const GELU_SCALE: f32 = 1.5957691216;
const GELU_CUBIC: f32 = 0.044715;

@group(0) @binding(10) var<storage, read_write> pre_activations: array<vec4<f32>>; // [batch, outputs], like the outputs

fn activate(z: vec4<f32>, at: u32) -> vec4<f32> {
    pre_activations[at] = z;
    return z * logistic(GELU_SCALE * (z + GELU_CUBIC * z * z * z));
}

// Gradient of z from the gradient of the output and z: logistic(u) + z du/dz exp(-|u|) / (1 + exp(-|u|))^2.
fn activate_backward(d_output: vec4<f32>, z: vec4<f32>) -> vec4<f32> {
    // Beyond 20 the derivative is 0 or 1, and z^3 may overflow. Not clamp(), which may lose a NaN.
    let near = select(z, 20.0 * sign(z), abs(z) > vec4<f32>(20.0));
    let square = GELU_CUBIC * near * near;
    let u = GELU_SCALE * near * (1.0 + square);
    let e = exp(-abs(u));
    let slope = near * (GELU_SCALE * (1.0 + 3.0 * square));
    return d_output * (logistic(u) + slope * (e / ((1.0 + e) * (1.0 + e))));
}
