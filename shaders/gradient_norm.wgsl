// The clip coefficient, which scales the gradients of all layers to a global L2 norm of at most MAX_NORM, as
// torch.nn.utils.clip_grad_norm_ does: min(1, MAX_NORM / (norm + 1e-6)).
//
// sum_of_squares runs once for each layer, in any order, and adds to the sums; clip_coefficient computes the
// coefficient from them and resets them to 0 for the next step. Every sum is computed in the same order every time.
//
// Provides: clip_coefficient, sum_of_squares.
override MAX_NORM: f32;

@group(0) @binding(3) var<storage, read> gradient: array<vec4<f32>>; // [inputs + 1, outputs], zeros beyond its edge
@group(0) @binding(4) var<storage, read_write> sums: array<f32>; // one per workgroup of the largest grid
@group(0) @binding(5) var<storage, read_write> coefficient: array<f32>; // one number

var<workgroup> parts: array<f32, 64>;

// Sum over the invocations of a workgroup; only the first invocation gets it.
fn workgroup_sum(part: f32, index: u32) -> f32 {
    parts[index] = part;
    workgroupBarrier();
    var sum = 0.0;
    if index == 0u {
        for (var i = 0u; i < 64u; i++) {
            sum += parts[i];
        }
    }
    return sum;
}

@compute @workgroup_size(64)
fn sum_of_squares(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    var squares = vec4<f32>(0.0);
    for (var at = 64u * workgroup.x + index; at < arrayLength(&gradient); at += 64u * workgroups.x) {
        squares += gradient[at] * gradient[at];
    }
    let sum = workgroup_sum(squares.x + squares.y + squares.z + squares.w, index);
    if index == 0u {
        sums[workgroup.x] += sum;
    }
}

@compute @workgroup_size(64)
fn clip_coefficient(@builtin(local_invocation_index) index: u32) {
    var part = 0.0;
    for (var at = index; at < arrayLength(&sums); at += 64u) {
        part += sums[at];
        sums[at] = 0.0;
    }
    let sum = workgroup_sum(part, index);
    if index == 0u {
        let limit = sqrt(sum) + 1e-6;
        var clip = 1.0;
        if MAX_NORM < limit {
            clip = MAX_NORM / limit;
        }
        // A non-finite norm must make the parameters NaN, which is detected. It is tested by its bits, because WGSL
        // does not guarantee infinities and NaNs.
        let bits = bitcast<u32>(sum);
        if (bits & 0x7f800000u) == 0x7f800000u {
            clip = bitcast<f32>(bits | 0x7fc00000u);
        }
        coefficient[0] = clip;
    }
}
