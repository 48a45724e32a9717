// The leaky rectifier (Maas et al. 2013), z if it is positive, otherwise z / 100; and its gradient.
//
// Provides: activate, activate_backward.
// Needs: is_negative.
const LEAK: f32 = 0.01;

fn activate(z: vec4<f32>, at: u32) -> vec4<f32> {
    return select(z, LEAK * z, is_negative(z));
}

// Gradient of z from the gradient of the output and the output, which has the sign of z.
fn activate_backward(d_output: vec4<f32>, output: vec4<f32>) -> vec4<f32> {
    return select(LEAK * d_output, d_output, output > vec4<f32>(0.0));
}
