// Mean squared error, as in torch.nn.MSELoss: the square of each error.
//
// Provides: error_loss, error_slope.

// Sum of the losses of four errors.
fn error_loss(errors: vec4<f32>) -> f32 {
    return dot(errors, errors);
}

fn error_slope(errors: vec4<f32>) -> vec4<f32> {
    return 2.0 * errors;
}
