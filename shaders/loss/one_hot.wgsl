// Targets of mean_squared_error.wgsl for classes: 1 at the label, 0 elsewhere.
//
// Provides: block_targets, labels.
// Needs: output_numbers.
@group(0) @binding(6) var<storage, read> labels: array<u32>; // [examples]

fn block_targets(block: u32, example: u32) -> vec4<f32> {
    return select(vec4<f32>(0.0), vec4<f32>(1.0), output_numbers(block) == vec4<u32>(labels[example]));
}
