#!/usr/bin/env python3
"""Pulumi's Python language host, for machines that cannot have the official one.

The engine starts it, reads the port from its first line and asks it over gRPC to run the program
(pulumi/proto/pulumi/language.proto). Each run is a child process on the project's own interpreter.
The first line's interpreter needs the `pulumi` package; `build` rewrites it.
"""

import asyncio
import json
import os
import runpy
import signal
import subprocess
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pulumi
from google.protobuf import empty_pb2, json_format
from pulumi.runtime.proto import language_pb2 as pb
from pulumi.runtime.proto import language_pb2_grpc, plugin_pb2

BAILED = 32
"""Exit code of a program that failed and has printed why."""

PLUGINS = """
import importlib.metadata, json
files = (f for d in importlib.metadata.distributions() for f in d.files or ())
print(json.dumps([f.read_text() for f in files if f.name == "pulumi-plugin.json"]))
"""
"""Prints what the installed Pulumi SDKs say of their plugins."""


def interpreter(info: pb.ProgramInfo) -> Path:
    """The interpreter named by `virtualenv` in Pulumi.yaml, else the one that runs this host."""
    venv = json_format.MessageToDict(info.options).get("virtualenv")
    return Path(info.root_directory, venv, "bin/python") if venv else Path(sys.executable)


class Host(language_pb2_grpc.LanguageRuntimeServicer):
    """What the engine asks of a language; the names are its protocol's."""

    def __init__(self, engine: str):
        self.engine = engine

    def Handshake(self, request, context):  # noqa: N802
        return pb.LanguageHandshakeResponse()

    def Cancel(self, request, context):  # noqa: N802
        return empty_pb2.Empty()

    def GetPluginInfo(self, request, context):  # noqa: N802
        return plugin_pb2.PluginInfo()

    def About(self, request, context):  # noqa: N802
        return pb.AboutResponse(executable=sys.executable, version=sys.version.split()[0])

    def RuntimeOptionsPrompts(self, request, context):  # noqa: N802
        return pb.RuntimeOptionsResponse()

    def GetProgramDependencies(self, request, context):  # noqa: N802
        return pb.GetProgramDependenciesResponse()

    def GetRequiredPlugins(self, request, context):  # noqa: N802
        found = packages(request.info)
        return pb.GetRequiredPluginsResponse(
            plugins=[
                plugin_pb2.PluginDependency(kind=p.kind, name=p.name, version=p.version)
                for p in found
            ]
        )

    def GetRequiredPackages(self, request, context):  # noqa: N802
        return pb.GetRequiredPackagesResponse(packages=packages(request.info))

    def Run(self, request, context):  # noqa: N802
        config = {
            "PULUMI_CONFIG": json.dumps(dict(request.config)),
            "PULUMI_CONFIG_SECRET_KEYS": json.dumps(list(request.configSecretKeys)),
        }
        settings = {
            "monitor": request.monitor_address,
            "engine": self.engine,
            "project": request.project,
            "stack": request.stack,
            "parallel": request.parallel,
            "dry_run": request.dryRun,
            "organization": request.organization,
            "root_directory": request.info.root_directory,
        }
        program = Path(request.info.program_directory, request.info.entry_point)
        command = [interpreter(request.info), __file__, "--run", json.dumps(settings), program]
        done = subprocess.run(
            [*command, *request.args], cwd=request.pwd, env=os.environ | config, check=False
        )
        if done.returncode == BAILED:
            return pb.RunResponse(bail=True)
        error = f"the program ended with exit code {done.returncode}" if done.returncode else ""
        return pb.RunResponse(error=error)


def packages(info: pb.ProgramInfo) -> list[plugin_pb2.PackageDependency]:
    """The plugins that the installed Pulumi SDKs want."""
    ran = subprocess.run(
        [interpreter(info), "-c", PLUGINS], check=True, capture_output=True, text=True
    )
    return [
        plugin_pb2.PackageDependency(kind="resource", name=p["name"], version=p["version"])
        for p in map(json.loads, json.loads(ran.stdout))
        if p.get("resource")
    ]


def run(settings: str, program: str, *args: str) -> None:
    """Run the program in this process, as the child of a host."""
    config = json.loads(os.environ["PULUMI_CONFIG"])
    pulumi.runtime.set_all_config(config, json.loads(os.environ["PULUMI_CONFIG_SECRET_KEYS"]))
    pulumi.runtime.configure(pulumi.runtime.Settings(**json.loads(settings)))
    sys.argv = [program, *args]
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(
            pulumi.runtime.run_in_stack(lambda: runpy.run_path(program, run_name="__main__"))
        )
    except pulumi.RunError as error:
        pulumi.log.error(str(error))
        sys.exit(BAILED)
    except Exception:
        pulumi.log.error("the program failed:\n" + traceback.format_exc())
        sys.exit(BAILED)
    finally:
        loop.close()


def serve(engine: str) -> None:
    """Answer the engine until it ends us."""
    server = grpc.server(ThreadPoolExecutor(4))
    language_pb2_grpc.add_LanguageRuntimeServicer_to_server(Host(engine), server)
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the engine's way of ending us
    if sys.argv[1:2] == ["--run"]:
        run(*sys.argv[2:])
    else:
        serve(sys.argv[-1])
