// What gradients are multiplied with so that their L2 norm, all layers together, is MAX_NORM at most, as
// torch.nn.utils.clip_grad_norm_ has it: min(1, MAX_NORM / (norm + 1e-6)).
//
// sum_of_squares runs once for each layer, in any order, and adds to the sums; clip_coefficient makes the coefficient of
// them and leaves them at 0 for the next step. Every sum is taken in the same order each time.
override MAX_NORM: f32;

@group(0) @binding(3) var<storage, read> gradient: array<vec4<f32>>; // [inputs + 1, outputs], zeros beyond its edge
@group(0) @binding(4) var<storage, read_write> sums: array<f32>; // one for each workgroup of the largest grid
@group(0) @binding(5) var<storage, read_write> coefficient: array<f32>; // the first number

var<workgroup> parts: array<f32, 64>;

// The sum of what the invocations of a workgroup hold; only the first one gets it.
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
        // A norm that is not finite makes the parameters NaN, which shows. By its bits, as WGSL knows no such numbers.
        let bits = bitcast<u32>(sum);
        if (bits & 0x7f800000u) == 0x7f800000u {
            clip = bitcast<f32>(bits | 0x7fc00000u);
        }
        coefficient[0] = clip;
    }
}
