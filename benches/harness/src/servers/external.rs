//! Servers in other languages: compiled, or configured, when their tools are on the machine.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Launch, Service, Settings};

const GO_SOURCE: &str = include_str!("../../programs/server.go");
const C_SOURCE: &str = include_str!("../../programs/server.c");
const NGINX_CONFIGURATION: &str = include_str!("../../programs/nginx.conf");

/// Where Debian's packages put them.
const NGINX_MODULES: &str = "/usr/lib/nginx/modules";
const LUA_REDIS: &str = "/usr/share/lua/5.1/nginx/redis.lua";

pub fn go(settings: &Settings, directory: &Path) -> Result<Launch, String> {
    let binary = compile_go(GO_SOURCE, "server", directory)?;
    let mut command = Command::new(binary);
    command.env("GOMAXPROCS", "1").args(settings.arguments());
    Ok(command.into())
}

/// Also compiles the micro benchmarks.
pub fn compile_go(source: &str, name: &str, directory: &Path) -> Result<PathBuf, String> {
    let (file, binary) = write_source(source, directory, &format!("{name}.go"))?;
    let mut compiler = Command::new("go");
    compiler.args(["build", "-o"]).arg(&binary).arg(&file);
    compiler.env("GOCACHE", directory.join("go-cache")).env("GO111MODULE", "off");
    compile(compiler, &binary, "golang-go")
}

pub fn libuv(settings: &Settings, directory: &Path) -> Result<Launch, String> {
    let (file, binary) = write_source(C_SOURCE, directory, "server.c")?;
    let mut compiler = Command::new("cc");
    compiler.args(["-O2", "-o"]).arg(&binary).arg(&file).arg("-luv");
    let mut command = Command::new(compile(compiler, &binary, "gcc libuv1-dev")?);
    command.args(settings.arguments());
    Ok(command.into())
}

/// The source as a file, and what it is to be compiled to.
fn write_source(source: &str, directory: &Path, name: &str) -> Result<(PathBuf, PathBuf), String> {
    let (file, binary) = (directory.join(name), directory.join(name.replace('.', "-")));
    let is_known = fs::read_to_string(&file).is_ok_and(|known| known == source);
    if !is_known {
        fs::write(&file, source).map_err(|error| error.to_string())?;
        let _ = fs::remove_file(&binary);
    }
    Ok((file, binary))
}

fn compile(mut compiler: Command, binary: &Path, packages: &str) -> Result<PathBuf, String> {
    if !binary.exists() {
        let name = compiler.get_program().to_string_lossy().into_owned();
        let output =
            compiler.output().map_err(|error| format!("{name}: {error}; in Debian: {packages}"))?;
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            let first = errors.lines().find(|line| line.contains("error")).unwrap_or(&errors);
            return Err(format!("{name}: {}; in Debian: {packages}", first.trim()));
        }
    }
    Ok(binary.to_owned())
}

/// One worker, no master: its CPU time is the process's.
pub fn nginx(settings: &Settings, directory: &Path) -> Result<Launch, String> {
    let lua = Path::new(NGINX_MODULES).join("ngx_http_lua_module.so");
    for file in [&lua, Path::new(LUA_REDIS)] {
        if !file.exists() {
            let packages = "nginx-light libnginx-mod-http-lua lua-nginx-redis";
            return Err(format!("no {}; in Debian: {packages}", file.display()));
        }
    }
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|error| error.to_string())?;
    let address = free.local_addr().map_err(|error| error.to_string())?;
    let handler = match settings.service {
        Service::Redis => "look_up",
        _ => "hello",
    };
    let configuration = NGINX_CONFIGURATION
        .replace("@MODULES@", NGINX_MODULES)
        .replace("@DIRECTORY@", &directory.display().to_string())
        .replace("@LISTEN@", &address.to_string())
        .replace("@REDIS_HOST@", &settings.redis.ip().to_string())
        .replace("@REDIS_PORT@", &settings.redis.port().to_string())
        .replace("@HANDLER@", handler);
    let file = directory.join("nginx.conf");
    fs::write(&file, configuration).map_err(|error| error.to_string())?;
    let mut command = Command::new("nginx");
    command.arg("-e").arg(directory.join("nginx.log")).arg("-c").arg(file);
    command.stderr(Stdio::null());
    Ok(Launch { command, address: Some(address) })
}
