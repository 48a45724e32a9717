// The empty epilogue, for narrow.wgsl without a fused loss.
//
// Provides: finish.
fn finish(row_block: u32) {}
