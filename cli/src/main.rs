//! The program `borgios`; all of it is in the library beside it.

fn main() -> std::process::ExitCode {
    borgios_cli::run()
}
