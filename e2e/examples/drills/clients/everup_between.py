"""A pytest plug-in: the httpbin of pytest-httpbin is reached through everup, at EVERUP_URL. The tests stay as they are."""

import os

from pytest_httpbin import serve

if "EVERUP_URL" in os.environ:

    class Between:
        """The address by which tests call the server, in place of its own."""

        def __get__(self, server, _owner):
            if server.protocol == "http":
                return os.environ["EVERUP_URL"]
            return f"{server.protocol}://{server.host}:{server.port}"

    serve.Server.url = Between()
