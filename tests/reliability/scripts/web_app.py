"""A web service with a net: what it does at import is done once, in the master of the server."""

import hashlib
import os
from urllib.parse import parse_qs

from work import X, fit, frozen, shared, team_size

fit(0)  # with a team, if --preload leaves it to the master
LOADED_BY = os.getpid(), team_size()


def app(environ, start_response):
    """Answer with the process, who loaded the net, and what the net says of a row."""
    query = parse_qs(environ["QUERY_STRING"])
    row = int(query["row"][0])
    one = frozen.predict(X[row : row + 1])
    many = shared.predict(X, n_threads=2)[row]
    parts = [os.getpid(), *LOADED_BY, one.tobytes().hex(), many.tobytes().hex()]
    if "fit" in query:
        parts.append(hashlib.sha256(b"".join(fit(int(query["fit"][0])))).hexdigest())
    body = " ".join(map(str, parts)).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
