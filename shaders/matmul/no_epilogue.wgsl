// For matmul_narrow.wgsl, where nothing is fused to the product.
fn finish(row_block: u32) {}
