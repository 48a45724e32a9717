// Update of a layer by its clipped gradient, coefficient * gradient, with a part of optimizer/. The coefficient is that
// of gradient_norm.wgsl.
//
// Provides: clipped_update.
// Needs: update.
@group(0) @binding(3) var<storage, read> gradient: array<vec4<f32>>; // [inputs + 1, outputs]
@group(0) @binding(4) var<storage, read> coefficient: array<f32>; // one number

@compute @workgroup_size(64)
fn clipped_update(
    @builtin(global_invocation_id) invocation: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
) {
    for (var at = invocation.x; at < arrayLength(&gradient); at += 64u * workgroups.x) {
        update(at, coefficient[0] * gradient[at]);
    }
}
