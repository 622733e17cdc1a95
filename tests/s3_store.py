"""A stand-in for S3 on this machine."""

import contextlib
import os
import urllib.request
from collections.abc import Iterator


@contextlib.contextmanager
def s3_store() -> Iterator[dict[str, str]]:
    """An empty store, and in the environment what leads to it (yielded).

    All of moto's servers of a process hold the same buckets, and s3fs keeps its connections: both are dropped at the end, so
    that the next store is empty and is found.
    """
    import s3fs
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    told = {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nobody-has-this-one",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    before = dict(os.environ)
    os.environ |= told
    try:
        yield told
    finally:
        os.environ.clear()
        os.environ |= before
        s3fs.S3FileSystem.clear_instance_cache()
        try:
            direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            direct.open(urllib.request.Request(f"{address}/moto-api/reset", method="POST"), timeout=60).close()
        finally:
            server.stop()
