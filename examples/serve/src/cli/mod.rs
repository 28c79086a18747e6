//! The command line: `serve`, `run`, `pull`, `list`, … Every command but `serve` and
//! `verify` talks to a server, as Ollama's does.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line talks to people")]

mod answer;
pub mod args;
pub mod client;
mod create;
mod editor;
pub mod history;
pub mod human;
pub mod lines;
mod models;
pub mod near;
pub mod repl;
pub mod run;
mod screen;
mod show;
pub mod table;
mod thoughts;
mod transfer;
pub mod wrap;

use std::process::ExitCode;

use args::{Args, Command};
use client::Client;

pub use answer::{Settings, figures};
pub use screen::{Result, Screen, width};

/// Parses the arguments and runs the command.
pub fn main() -> ExitCode {
    let args = match Args::read(std::env::args_os()) {
        Ok(args) => args,
        Err(message) => {
            let failed = message.use_stderr();
            // Help goes to stdout, a mistake to stderr; a closed pipe is fine.
            let _ = message.print();
            return if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    match run_command(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run_command(args: Args) -> Result {
    let Some(command) = args.command else {
        if args.version {
            return client_runtime()?.block_on(version());
        }
        let help = <Args as clap::CommandFactory>::command().render_help();
        print!("{help}");
        return Ok(());
    };
    match command {
        Command::Serve(args) => serve(&args),
        Command::Verify { models } => models::verify(models),
        command => {
            let client = Client::from_env()?;
            let mut out = std::io::stdout();
            let terminal = std::io::IsTerminal::is_terminal(&out);
            let mut screen = Screen { out: &mut out, terminal };
            client_runtime()?.block_on(talk(&client, &mut screen, command))
        }
    }
}

/// A command that talks to a server.
///
/// # Errors
/// One sentence.
pub async fn talk(client: &Client, screen: &mut Screen<'_>, command: Command) -> Result {
    client.check().await?;
    match command {
        Command::Run(args) => run::run(client, screen, &args).await,
        Command::Pull(args) => transfer::pull(client, &args.model, args.insecure).await,
        Command::Push(args) => transfer::push(client, &args.model, args.insecure).await,
        Command::Create(args) => create::create(client, &args).await,
        Command::List { prefix } => models::list(client, screen, prefix.as_deref()).await,
        Command::Ps => models::ps(client, screen).await,
        Command::Show(args) => show::show(client, screen, &args).await,
        Command::Cp { source, destination } => {
            models::copy(client, screen, &source, &destination).await
        }
        Command::Rm { models } => models::remove(client, screen, &models).await,
        Command::Stop { model } => models::stop(client, &model).await,
        // Handled before there is a client.
        Command::Serve(_) | Command::Verify { .. } => Ok(()),
    }
}

fn client_runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

fn serve(args: &crate::config::ServeArgs) -> Result {
    crate::log::install(args);
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    if let Some(unknown) = Args::unknown_variable(names) {
        return Err(unknown.into());
    }
    let config = crate::config::Config::new(args)?;
    // Handlers only pass on what engines and disks do on threads of their own.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let served = runtime.block_on(crate::http::serve(config));
    // What waits for a disk must not hold up the end.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    Ok(served?)
}

/// The versions of server and client, which may differ, and whose they are.
async fn version() -> Result {
    let (own, ours) = (crate::wire::OLLAMA_VERSION, env!("CARGO_PKG_VERSION"));
    let client = Client::from_env()?;
    match client.versions().await {
        Ok((server, theirs)) => {
            println!("ollama version is {server}");
            match &theirs {
                Some(theirs) => println!("tramontane version is {theirs}"),
                None => println!("the server is not tramontane"),
            }
            if server != own {
                println!("Warning: client version is {own}");
            }
            if theirs.as_deref() != Some(ours) {
                println!("Warning: this command is tramontane {ours}");
            }
        }
        Err(_) => {
            println!("Warning: could not connect to a running Ollama instance");
            println!("Warning: client version is {own}");
            println!("tramontane version is {ours}");
        }
    }
    Ok(())
}
