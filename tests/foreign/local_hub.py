"""A server on this machine that speaks the hub's protocol, for one model: owner/model, the files of a folder.

    with LocalHub(folder) as url: ...
"""
import hashlib
import http.server
import json
import pathlib
import threading

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def git_sha1(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class LocalHub:
    def __init__(self, folder):
        self.files = {path.name: path.read_bytes() for path in pathlib.Path(folder).iterdir() if path.is_file()}
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                hub.answer(self, True)

            def do_HEAD(self):
                hub.answer(self, False)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def __exit__(self, *_):
        self.server.shutdown()

    def siblings(self):
        for name, data in self.files.items():
            sibling = {"rfilename": name, "size": len(data), "blobId": git_sha1(data)}
            if name.endswith(".safetensors"):
                sibling["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
            yield sibling

    def answer(self, request, body):
        path = request.path.partition("?")[0]
        resolve = f"/owner/model/resolve/{COMMIT}/"
        if path in ("/api/models/owner/model/revision/main", f"/api/models/owner/model/revision/{COMMIT}"):
            self.send(request, json.dumps({"id": "owner/model", "sha": COMMIT, "siblings": list(self.siblings())}).encode(), {}, body)
        elif path.startswith(resolve) and path[len(resolve):] in self.files:
            name = path[len(resolve):]
            data = self.files[name]
            digest = hashlib.sha256(data).hexdigest() if name.endswith(".safetensors") else git_sha1(data)
            self.send(request, data, {"ETag": f'"{digest}"', "X-Repo-Commit": COMMIT}, body)
        else:
            request.send_response(404)
            request.send_header("Content-Length", "0")
            request.end_headers()

    @staticmethod
    def send(request, data, headers, body):
        request.send_response(200)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            request.send_header(name, value)
        request.end_headers()
        if body:
            request.wfile.write(data)
