// The Huber loss (Huber 1964), as in torch.nn.HuberLoss: error^2 / 2 within 1 of 0, |error| - 1/2 beyond. A NaN is not
// beyond, and stays one.
//
// Provides: error_loss, error_slope.

// Sum of the losses of four errors.
fn error_loss(errors: vec4<f32>) -> f32 {
    let sizes = abs(errors);
    return dot(select(0.5 * errors * errors, sizes - 0.5, sizes > vec4<f32>(1.0)), vec4<f32>(1.0));
}

fn error_slope(errors: vec4<f32>) -> vec4<f32> {
    return select(errors, sign(errors), abs(errors) > vec4<f32>(1.0));
}
