"""A hub on this machine: the part of the Hugging Face hub's HTTP interface that pushing and loading use.

Small files travel in the commit, large ones (here every file that is no text, or has over 10 kB) by LFS to a store at
another address, as to a CDN, where no token may come. Faults are asked for one at a time.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

TOKEN = "hf_" + "standin" * 5
OWNER = "me"
LARGE = 10_000
_TEXT = (".json", ".md", ".yaml", ".jsonl", ".txt", ".jinja", ".html")


@dataclass(frozen=True)
class File:
    data: bytes
    large: bool

    @property
    def oid(self) -> str:
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(self.data)}\n"
        data = pointer.encode() if self.large else self.data
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    def entry(self, path: str) -> dict[str, Any]:
        size = len(self.data)
        lfs = {"lfs": {"oid": self.sha256, "size": size, "pointerSize": 130}} if self.large else {}
        return {"type": "file", "path": path, "size": size, "oid": self.oid, **lfs}


@dataclass
class Repository:
    """`commits` by their names, oldest first; the last one is `main`."""

    private: bool
    commits: dict[str, dict[str, File]] = field(default_factory=lambda: {hashlib.sha1(b"0").hexdigest(): {}})

    def at(self, revision: str) -> tuple[str, dict[str, File]] | None:
        if revision == "main":
            return [*self.commits.items()][-1]
        return (revision, self.commits[revision]) if revision in self.commits else None


@dataclass
class Fault:
    """What goes wrong `times` times where method and path fit: a status, "drop" or "corrupt"."""

    method: str
    path: str
    what: int | str
    times: int = 1
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Hub:
    url: str = ""
    store: str = ""
    repositories: dict[tuple[str, str], Repository] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)  # method, URL, headers

    def files(self, name: str, kind: str = "model") -> dict[str, bytes]:
        """What a repository holds; nothing where it is not there."""
        there = self.repositories.get((kind, name))
        return {path: file.data for path, file in there.at("main")[1].items()} if there else {}  # type: ignore[index]

    def fault(self, method: str, path: str, place: str) -> Fault | None:
        for fault in self.faults:
            if fault.times and fault.method == method and re.search(fault.path, place + path):
                fault.times -= 1
                return fault
        return None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub
    place: str  # "hub" or "store"

    def log_message(self, *arguments: object) -> None:
        pass

    def send(self, status: int, body: Any = b"", **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        told = {"Content-Length": str(len(data)), **{name.replace("_", "-"): value for name, value in headers.items()}}
        for name, value in told.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def answer(self) -> None:
        split = urlsplit(self.path)
        self.path_, self.query = unquote(split.path), parse_qs(split.query)
        headers = {name.title(): value for name, value in self.headers.items()}
        address = self.hub.url if self.place == "hub" else self.hub.store
        self.hub.asked.append((self.command, address + self.path, headers))
        fault = self.hub.fault(self.command, self.path_, self.place)
        length = int(self.headers.get("Content-Length") or 0)
        if fault and fault.what == "drop":
            self.rfile.read(min(length, 1000))
            self.close_connection = True
            self.connection.close()
            return
        self.body = self.rfile.read(length) if length else self.chunks()
        with suppress(BrokenPipeError, ConnectionResetError):
            if fault and isinstance(fault.what, int):
                self.send(fault.what, {"error": "as a test wants it"}, **fault.headers)
                return
            self.corrupt = fault is not None
            for method, pattern, act in ROUTES:
                found = re.fullmatch(pattern, self.path_)
                if method == self.command.replace("HEAD", "GET") and found and self.may_come():
                    act(self, **found.groupdict())
                    return
            self.send(404, {"error": f"no such thing: {self.command} {self.path}"}, X_Error_Code="EntryNotFound")

    do_GET = do_HEAD = do_POST = do_PUT = answer

    def chunks(self) -> bytes:
        """A body that comes in chunks."""
        data = b""
        if "chunked" in (self.headers.get("Transfer-Encoding") or ""):
            while size := int(self.rfile.readline().split(b";")[0], 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        return data

    def may_come(self) -> bool:
        return self.place == "store" or "/lfs-store/" not in self.path_

    def known(self) -> bool:
        """Whether the token is right; else an answer is sent."""
        if self.headers.get("Authorization") == f"Bearer {TOKEN}":
            return True
        self.send(401, {"error": "Invalid credentials in Authorization header"})
        return False

    def repository(self, kind: str, name: str) -> Repository | None:
        there = self.hub.repositories.get((kind or "model", name))
        if there is None or (there.private and self.headers.get("Authorization") != f"Bearer {TOKEN}"):
            self.send(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
            return None
        return there

    def at(self, kind: str, name: str, revision: str) -> tuple[str, dict[str, File]] | None:
        there = self.repository(kind, name)
        found = there.at(revision) if there else None
        if there and not found:
            self.send(404, {"error": "Invalid rev id"}, X_Error_Code="RevisionNotFound")
        return found


def whoami(self: Handler) -> None:
    if self.known():
        self.send(200, {"type": "user", "name": OWNER, "orgs": [], "auth": {"accessToken": {"role": "write"}}})


def create(self: Handler) -> None:
    if not self.known():
        return
    asked = json.loads(self.body)
    kind, name = asked.get("type") or "model", f"{asked.get('organization') or OWNER}/{asked['name']}"
    url = f"{self.hub.url}/{'datasets/' * (kind == 'dataset')}{name}"
    if asked.get("organization") not in (None, OWNER):
        self.send(403, {"error": "You don't have the rights to create a model under this namespace"})
    elif (kind, name) in self.hub.repositories:
        self.send(409, {"error": "You already created this model repo", "url": url})
    else:
        private = asked.get("visibility") == "private" or bool(asked.get("private"))
        self.hub.repositories[kind, name] = Repository(private)
        self.send(200, {"url": url, "name": name, "id": "1"})


def info(self: Handler, kind: str, name: str, revision: str | None = None) -> None:
    found = self.at(kind, name, revision or "main")
    if found:
        private = self.hub.repositories[kind, name].private
        siblings = [{"rfilename": path} for path in found[1]]
        self.send(200, {"id": name, "sha": found[0], "private": private, "siblings": siblings, "tags": [], "_id": "1"})


def tree(self: Handler, kind: str, name: str, revision: str, path: str | None = None) -> None:
    found = self.at(kind, name, revision)
    if not found:
        return
    inside, recursive = f"{path}/" if path else "", self.query.get("recursive", ["false"])[0].lower() in ("true", "1")
    files = {name: file for name, file in found[1].items() if name.startswith(inside)}
    if path and not files:
        return self.send(404, {"error": "not there"}, X_Error_Code="EntryNotFound")
    folders = {f"{inside}{name[len(inside) :].split('/')[0]}" for name in files if "/" in name[len(inside) :]}
    shown = [file.entry(name) for name, file in files.items() if recursive or "/" not in name[len(inside) :]]
    self.send(200, [*({"type": "directory", "path": one, "oid": "0" * 40, "size": 0} for one in folders), *shown])


def paths(self: Handler, kind: str, name: str, revision: str) -> None:
    found = self.at(kind, name, revision)
    if not found:
        return
    body = self.body.decode()
    wanted = json.loads(body)["paths"] if body.startswith("{") else parse_qs(body)["paths"]
    listed = [found[1][one].entry(one) for one in wanted if one in found[1]]
    for one in listed[:1] if self.corrupt else ():
        one["oid"] = "f" * 40
        one.get("lfs", {}).update(oid="f" * 64)
    folders = [one for one in wanted if any(path.startswith(f"{one}/") for path in found[1])]
    self.send(200, [*listed, *({"type": "directory", "path": one, "oid": "0" * 40} for one in folders)])


def validate(self: Handler) -> None:
    text = json.loads(self.body)["content"]
    head = re.match(r"---\n(.*?)\n---\n", text, re.S)
    try:
        fits = isinstance(yaml.safe_load(head[1]), dict) if head else False
    except yaml.YAMLError:
        fits = False
    errors = [] if fits else [{"message": "the head is no YAML"}]
    self.send(200 if fits else 400, {"errors": errors, "warnings": []})


def preupload(self: Handler, kind: str, name: str, revision: str) -> None:
    found = self.at(kind, name, revision) if self.known() else None
    if not found:
        return
    told = []
    for file in json.loads(self.body)["files"]:
        large = not file["path"].endswith(_TEXT) or file["size"] > LARGE
        there = found[1].get(file["path"])
        oid = {"oid": there.sha256 if large else there.oid} if there else {}
        told.append({"path": file["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False, **oid})
    self.send(200, {"files": told})


def batch(self: Handler, prefix: str, name: str) -> None:
    if not self.known():
        return
    told = []
    for one in json.loads(self.body)["objects"]:
        actions = {
            "upload": {"href": f"{self.hub.store}/lfs-store/{one['oid']}?signed=1"},
            "verify": {"href": f"{self.hub.url}/lfs-verify"},
        }
        told.append({**one, **({} if one["oid"] in self.hub.large else {"actions": actions})})
    self.send(200, {"transfer": "basic", "objects": told})


def put(self: Handler, oid: str) -> None:
    data = self.body[:-1] + b"\0" if self.corrupt else self.body
    self.hub.large[oid] = data
    self.send(200)


def verify(self: Handler) -> None:
    asked = json.loads(self.body)
    data = self.hub.large.get(asked["oid"], b"")
    if self.known():
        if hashlib.sha256(data).hexdigest() == asked["oid"] and len(data) == asked["size"]:
            self.send(200)
        else:
            self.hub.large.pop(asked["oid"], None)
            self.send(422, {"error": "the content has another digest"})


def commit(self: Handler, kind: str, name: str, revision: str) -> None:
    found = self.at(kind, name, revision) if self.known() else None
    if not found:
        return
    files, lines = dict(found[1]), [json.loads(line) for line in self.body.splitlines()]
    for line in lines:
        value = line["value"]
        if line["key"] == "header" and value.get("parentCommit") not in (None, found[0]):
            return self.send(412, {"error": "The expected parent is another one"})
        if line["key"] == "file":
            files[value["path"]] = File(base64.b64decode(value["content"]), False)
        elif line["key"] == "lfsFile":
            if value["oid"] not in self.hub.large:
                return self.send(422, {"error": "that object was not uploaded"})
            files[value["path"]] = File(self.hub.large[value["oid"]], True)
        elif line["key"] == "deletedFile":
            files.pop(value["path"])
    name_ = hashlib.sha1(self.body + found[0].encode()).hexdigest()
    self.hub.repositories[kind, name].commits[name_] = files
    if self.corrupt:  # the answer is lost
        self.close_connection = True
        self.connection.close()
        return
    self.send(200, {"success": True, "commitOid": name_, "commitUrl": f"{self.hub.url}/{name}/commit/{name_}"})


def resolve(self: Handler, prefix: str | None, name: str, revision: str, path: str) -> None:
    found = self.at("dataset" if prefix else "model", name, revision)
    if not found:
        return
    file = found[1].get(path)
    if file is None:
        return self.send(404, {"error": "Entry not found"}, X_Error_Code="EntryNotFound", X_Repo_Commit=found[0])
    told = {"X_Repo_Commit": found[0], "ETag": f'"{file.oid}"', "Accept_Ranges": "bytes"}
    if file.large:
        told |= {"X_Linked_Etag": f'"{file.sha256}"', "X_Linked_Size": str(len(file.data))}
        self.send(302, Location=f"{self.hub.store}/lfs-store/{file.sha256}?signed=1", **told)
    else:
        self.send(200, file.data, **told)


def give(self: Handler, oid: str) -> None:
    data = self.hub.large.get(oid)
    if data is None:
        return self.send(404)
    data = bytes([data[0] ^ 1]) + data[1:] if self.corrupt else data
    span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
    if not span:
        return self.send(200, data)
    last = int(span[2]) if span[2] else len(data) - 1
    self.send(206, data[int(span[1]) : last + 1], Content_Range=f"bytes {span[1]}-{last}/{len(data)}")


_NAME = r"(?P<name>[^/]+/[^/]+)"
_API = rf"/api/(?P<kind>model|dataset)s/{_NAME}"
_REVISION = r"(?P<revision>[^/]+)"
ROUTES = [
    ("GET", "/api/whoami-v2", whoami),
    ("POST", "/api/repos/create", create),
    ("POST", "/api/validate-yaml", validate),
    ("GET", _API, info),
    ("GET", rf"{_API}/revision/{_REVISION}", info),
    ("GET", rf"{_API}/tree/{_REVISION}(?:/(?P<path>.+))?", tree),
    ("POST", rf"{_API}/paths-info/{_REVISION}", paths),
    ("POST", rf"{_API}/preupload/{_REVISION}", preupload),
    ("POST", rf"{_API}/commit/{_REVISION}", commit),
    ("POST", rf"/(?P<prefix>datasets/)?{_NAME}\.git/info/lfs/objects/batch", batch),
    ("PUT", "/lfs-store/(?P<oid>[0-9a-f]+)", put),
    ("GET", "/lfs-store/(?P<oid>[0-9a-f]+)", give),
    ("POST", "/lfs-verify", verify),
    ("GET", rf"/(?P<prefix>datasets/)?{_NAME}/resolve/{_REVISION}/(?P<path>.+)", resolve),
]


@contextmanager
def standin() -> Iterator[Hub]:
    """A hub that runs as long as it is asked for; its store of large files is at another address."""
    hub = Hub()
    servers = []
    for place, host in (("hub", "127.0.0.1"), ("store", "127.0.0.2")):
        handler = type("Here", (Handler,), {"hub": hub, "place": place})
        server = ThreadingHTTPServer((host, 0), handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
    hub.url, hub.store = (f"http://{server.server_address[0]}:{server.server_port}" for server in servers)
    try:
        yield hub
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
