// The rectifier of hidden layers, max(z, 0), and its gradient. Not max(), which would turn a NaN into 0 and hide it.
//
// Provides: activate, activate_backward.
// Needs: is_negative.
fn activate(z: vec4<f32>, at: u32) -> vec4<f32> {
    return select(z, vec4<f32>(0.0), is_negative(z));
}

// Gradient of z from the gradient of the output and the output.
fn activate_backward(d_output: vec4<f32>, output: vec4<f32>) -> vec4<f32> {
    return select(vec4<f32>(0.0), d_output, output > vec4<f32>(0.0));
}
