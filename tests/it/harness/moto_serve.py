"""Serves moto on a port that the system chooses.

`moto_server` takes a port and does not say which one it got for 0; this writes it to the file named by
the first argument, once the socket listens. It ends when its standard input ends: the test process
holds the other end of that pipe, so no emulator outlives a test that was killed.
"""

import os
import sys
import threading

import moto_iam
import moto_fleet
from moto.ec2.utils import filter_dict_attribute_mapping
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server


# EC2 documents this filter; moto has the attribute and lacks only the name.
filter_dict_attribute_mapping.setdefault("iam-instance-profile.arn", "iam_instance_profile.Arn")

moto_iam.extend()
moto_fleet.extend()


def end_with_stdin() -> None:
    while sys.stdin.buffer.read(4096):
        pass
    os._exit(0)


def main() -> None:
    port_file = sys.argv[1]
    app = DomainDispatcherApplication(create_backend_app)
    app.debug = True
    server = make_server("127.0.0.1", 0, app, threaded=True)
    os.environ["MOTO_PORT"] = str(server.server_port)
    threading.Thread(target=end_with_stdin, daemon=True).start()
    with open(port_file + ".new", "w", encoding="ascii") as file:
        file.write(f"{server.server_port}\n")
    os.rename(port_file + ".new", port_file)
    server.serve_forever()


if __name__ == "__main__":
    main()
