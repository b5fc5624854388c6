"""A service on a message bus, and its clients, whose calls and answers have descriptors.

Usage: relay_dbus_peer.py service BUS              prints "ready", and serves until it is killed
       relay_dbus_peer.py libdbus|gdbus BUS ROUNDS  two calls in each round; prints the microseconds of one
"""

import os
import sys
import time


def filled(text):
    fd = os.memfd_create("text")
    os.write(fd, text.encode())
    return fd


def text_of(fd):
    text = os.pread(fd, 100, 0).decode()
    os.close(fd)
    return text


def serve(bus):
    import dbus
    import dbus.mainloop.glib
    import dbus.service
    from gi.repository import GLib

    class Service(dbus.service.Object):
        @dbus.service.method("ferry.Test", in_signature="h", out_signature="s")
        def Read(self, fd):
            return text_of(fd.take())

        @dbus.service.method("ferry.Test", in_signature="s", out_signature="h")
        def Make(self, text):
            fd = filled(text)
            handle = dbus.types.UnixFd(fd)
            os.close(fd)
            return handle

    dbus.mainloop.glib.DBusGMainLoop(set_as_default=True)
    connection = dbus.bus.BusConnection(bus)
    name = dbus.service.BusName("ferry.Test", connection)
    service = Service(connection, "/test")
    print("ready", flush=True)
    GLib.MainLoop().run()
    del name, service


def libdbus(bus):
    import dbus

    proxy = dbus.Interface(dbus.bus.BusConnection(bus).get_object("ferry.Test", "/test"), "ferry.Test")

    def read(text):
        fd = filled(text)
        answer = str(proxy.Read(dbus.types.UnixFd(fd)))
        os.close(fd)
        return answer
    return read, lambda text: text_of(proxy.Make(text).take())


def gdbus(bus):
    from gi.repository import Gio, GLib

    flags = Gio.DBusConnectionFlags
    connection = Gio.DBusConnection.new_for_address_sync(
        bus, flags.AUTHENTICATION_CLIENT | flags.MESSAGE_BUS_CONNECTION, None, None)

    def call(method, argument, fds):
        return connection.call_with_unix_fd_list_sync("ferry.Test", "/test", "ferry.Test", method, argument, None, 0,
                                                      -1, fds, None)

    def read(text):
        fd = filled(text)
        fds = Gio.UnixFDList()
        fds.append(fd)
        os.close(fd)
        return call("Read", GLib.Variant("(h)", (0,)), fds)[0].unpack()[0]

    def make(text):
        return text_of(call("Make", GLib.Variant("(s)", (text,)), None)[1].get(0))
    return read, make


def ask(library, bus, rounds):
    read, make = library(bus)
    start = time.monotonic()
    for number in range(rounds):
        if read(f"read {number}") != f"read {number}" or make(f"make {number}") != f"make {number}":
            sys.exit(f"a wrong answer in round {number}")
    print(f"{(time.monotonic() - start) / rounds / 2 * 1e6:.1f}")
    make("the end")


if __name__ == "__main__":
    ADDRESS = f"unix:path={sys.argv[2]}"
    if sys.argv[1] == "service":
        serve(ADDRESS)
    else:
        ask({"libdbus": libdbus, "gdbus": gdbus}[sys.argv[1]], ADDRESS, int(sys.argv[3]))
