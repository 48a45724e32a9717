//! The guides of the project, as they are beside what they describe.
//!
//! In a guide, a link to another guide leads to its page here.

/// Declares a guide: a page with the text of a Markdown file.
macro_rules! guides {
    ($($name:ident: $file:literal, $title:literal;)*) => {$(
        #[doc = $title]
        #[doc = ""]
        #[doc = include_str!("guide/links.md")]
        #[doc = include_str!($file)]
        pub mod $name {}
    )*};
}

guides! {
    model: "model/README.md", "Models: layers, activations, initialisation and model files.";
    data: "data/README.md", "Data: standard sets, tables, images, arrays and IDX files.";
    digits: "data/digits/README.md", "The bundled digits: source, credit and changes.";
    programs: "guide/programs.md", "Programs of your own: training, predicting in a web handler, and a kernel beside softstep's.";
    install: "guide/install.md", "Installation: wheels, archives, the container, completions and man pages.";
    export: "commands/export.md", "Export and import: ONNX, PyTorch, C99, and weights of others.";
    serve: "commands/serve.md", "Serving a model over HTTP.";
    commands: "commands/README.md", "The commands of the binary: training, losses, predicting, reports, the lesson.";
    ranks: "commands/ranks.md", "One model, or one sweep, on several processes, by MPI.";
    sweeps: "commands/sweep.md", "Many runs: seeds, folds, sweeps, all of a machine, data larger than memory.";
    shaders: "../shaders/README.md", "The shaders: how a program is put together.";
    benches: "../benches/README.md", "Speeds, and how they were measured.";
    peers: "../benches/peers/README.md", "The same work in PyTorch, JAX, Burn and Candle.";
    tests: "../tests/README.md", "The tests: their kinds, and what happens at every fault.";
    source: "README.md", "How softstep is built: the path of a step, a code map, and what never happens.";
}
