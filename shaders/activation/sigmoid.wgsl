// The logistic function for hidden layers, and its gradient.
//
// Provides: activate, activate_backward.
// Needs: logistic.
fn activate(z: vec4<f32>, at: u32) -> vec4<f32> {
    return logistic(z);
}

// Gradient of z from the gradient of the output and the output.
fn activate_backward(d_output: vec4<f32>, output: vec4<f32>) -> vec4<f32> {
    return d_output * (output * (1.0 - output));
}
