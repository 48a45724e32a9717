// The empty epilogue, for narrow.wgsl without a fused loss.
fn finish(row_block: u32) {}
