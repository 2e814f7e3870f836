"""Visits a hub on its own host, as a browser would; test_jupyterhub.py runs it there.

Reads one JSON object: `do`, an expression of this module's names and of the object's other values.
Prints the expression's value as JSON.
"""

import json
import re
import sys
import time
import uuid

import requests
import websocket

SITE = "http://127.0.0.1:8100"
HUB = SITE + "/jupyter/hub"
PAGES = "http://127.0.0.1:8200/pages/"


class Visitor:
    """A browser, logged in if there is a name."""

    def __init__(self, name=None, password=None):
        self.http = requests.Session()
        self.name = name
        if name:
            # Not to the server, which would start it.
            home = "login?next=%2Fjupyter%2Fhub%2Fhome"
            self.form(home, username=name, password=password)

    def form(self, page, **fields):
        """Fill in a form."""
        shown = self.http.get(f"{HUB}/{page}", timeout=30)
        fields["_xsrf"] = re.search(r'name="_xsrf" value="([^"]+)"', shown.text).group(1)
        return self.http.post(f"{HUB}/{page}", data=fields, timeout=30)

    def api(self, method, path, **options):
        """Ask the hub's API, with the login's cookies."""
        cookies = [c for c in self.http.cookies if c.name == "_xsrf"]
        xsrf = [c.value for c in cookies if c.path.startswith("/jupyter/hub")]
        headers = {"X-XSRFToken": "".join(xsrf[:1]), "Referer": HUB + "/home"}
        return self.http.request(
            method, f"{HUB}/api/{path}", headers=headers, timeout=60, **options
        )

    def token(self):
        """A token of the user's, for ten minutes."""
        made = self.api("POST", f"users/{self.name}/tokens", json={"expires_in": 600})
        assert made.status_code == 201, made.text
        return made.json()["token"]

    def server(self):
        """What the hub knows of the user's server; empty if there is none."""
        return self.api("GET", f"users/{self.name}").json()["servers"].get("", {})

    def start(self):
        """Start the user's server; the seconds it took."""
        began = time.monotonic()
        started = self.api("POST", f"users/{self.name}/server")
        assert started.status_code in (201, 202), started.text
        while not self.server().get("ready"):
            assert time.monotonic() - began < 180, "the server does not start"
            time.sleep(0.5)
        return time.monotonic() - began

    def stop(self):
        """Stop the user's server."""
        self.api("DELETE", f"users/{self.name}/server")
        while self.server():
            time.sleep(0.5)

    def run(self, code, seconds):
        """What code prints in a new kernel of the user, and whether the kernel died of it."""
        key = {"Authorization": f"token {self.token()}"}
        root = f"{SITE}/jupyter/user/{self.name}/api/kernels"
        made = requests.post(root, headers=key, timeout=60)
        assert made.status_code == 201, made.text
        kernel = made.json()["id"]
        printed, died = execute(f"{root}/{kernel}/channels", key, code, seconds)
        requests.delete(f"{root}/{kernel}", headers=key, timeout=60)
        return {"printed": printed, "died": died}


def execute(address, headers, code, seconds):
    """Have a kernel execute code: what it printed (None: no answer), and whether it died."""
    address = address.replace("http", "ws", 1)
    socket = websocket.create_connection(address, header=headers, timeout=seconds)
    number = uuid.uuid4().hex
    header = {"msg_id": number, "msg_type": "execute_request", "session": number}
    request = {
        "channel": "shell",
        "header": header | {"username": "", "version": "5.3"},
        "parent_header": {},
        "metadata": {},
        "content": {"code": code, "silent": False, "store_history": False, "allow_stdin": False},
    }
    socket.send(json.dumps(request))
    printed = ""
    try:
        while True:
            message = json.loads(socket.recv())
            kind, content = message["header"]["msg_type"], message["content"]
            state = content.get("execution_state") if kind == "status" else None
            if state in ("restarting", "dead", "autorestarting"):
                return printed, True
            if message["parent_header"].get("msg_id") != number:
                continue
            if kind == "stream":
                printed += content["text"]
            if kind == "error":
                printed += f"{content['ename']}: {content['evalue']}"
            if state == "idle":
                return printed, False
    except websocket.WebSocketTimeoutException:
        return None, False
    finally:
        socket.close()


def kernel_of(page):
    """The kernel that a page of Voila has."""
    return re.search(r"kernelId\W+([0-9a-f-]{36})", page).group(1)


if __name__ == "__main__":
    call = json.load(sys.stdin)
    print(json.dumps(eval(call["do"], globals() | call)))
