// The pixels of a tensor that a node reads or writes one by one, in blocks of 4 channels.
//
// Provides: CHANNEL_BLOCKS, PIXELS, WIDTH.
override CHANNEL_BLOCKS: u32; // blocks of a pixel
override PIXELS: u32; // pixels of an example
override WIDTH: u32; // pixels of a row
