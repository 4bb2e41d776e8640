from ..peers import Peer, plain_http1


def floor() -> Peer:
    return Peer(
        "floor", lambda place: [str(place.floor), str(place.port), str(place.origin)], version="floor.c, gcc -O2", speaks=plain_http1
    )
