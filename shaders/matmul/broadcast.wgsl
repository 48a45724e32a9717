// Broadcasts the block of one lane of a subgroup to all its lanes.
//
// Provides: block_of_lane.
fn block_of_lane(block: mat4x4<f32>, lane: u32) -> mat4x4<f32> {
    return mat4x4<f32>(
        subgroupShuffle(block[0], lane),
        subgroupShuffle(block[1], lane),
        subgroupShuffle(block[2], lane),
        subgroupShuffle(block[3], lane),
    );
}
