// The hyperbolic tangent for hidden layers, tanh(z) = 2 logistic(2 z) - 1, and its gradient.
//
// Provides: activate, activate_backward.
// Needs: logistic.
fn activate(z: vec4<f32>, at: u32) -> vec4<f32> {
    return 2.0 * logistic(2.0 * z) - 1.0;
}

// Gradient of z from the gradient of the output and the output.
fn activate_backward(d_output: vec4<f32>, output: vec4<f32>) -> vec4<f32> {
    return d_output * ((1.0 - output) * (1.0 + output));
}
