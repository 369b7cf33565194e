//! The `hale` command.

fn main() {
    let _cli = <hale::args::Cli as clap::Parser>::parse();
}
