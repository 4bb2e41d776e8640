import ProxyConfig
import TestSupport
import Testing

/// Endpoints that come from names.
@Suite struct DiscoveryTests {
    /// A name server that answers every A question with the addresses in a file (the word `fail` is a SERVFAIL), and a web server on
    /// 127.0.0.2 and one on 127.0.0.3 that answer with their own address.
    private static let server = """
        import http.server, socket, sys, threading

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            def do_GET(self):
                body = self.server.server_address[0].encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            def log_message(self, *arguments): pass

        for address in ["127.0.0.2", "127.0.0.3"]:
            web = http.server.ThreadingHTTPServer((address, int(sys.argv[2])), Handler)
            web.daemon_threads = True
            threading.Thread(target=web.serve_forever, daemon=True).start()

        names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        names.bind(("127.0.0.1", 0))
        print(names.getsockname()[1], flush=True)
        while True:
            query, caller = names.recvfrom(2048)
            end = 12
            while query[end]: end += query[end] + 1
            answer = open(sys.argv[1]).read().split()
            code = 2 if answer == ["fail"] else 0
            addresses = answer if code == 0 and query[end + 2] == 1 else []
            reply = query[:2] + bytes([0x81, 0x80 | code, 0, 1]) + len(addresses).to_bytes(2, "big") + bytes(4) + query[12:end + 5]
            for address in addresses: reply += b"\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\1\\0\\4" + socket.inet_aton(address)
            names.sendto(reply, caller)
        """

    @Test("an answer of DNS that changes under load moves requests to the new address, a failing one changes nothing, and no request fails")
    func answersChangeUnderLoad() throws {
        let folder = try TemporaryFolder()
        func answer(_ text: String) throws { try folder.replace("answer", with: Array(text.utf8)) }
        try answer("127.0.0.2")
        try folder.replace("server.py", with: Array(Self.server.utf8))
        let port = try Ports.free()
        let server = try Program("python3", [folder.file("server.py"), folder.file("answer"), "\(port)"])
        defer { server.end() }
        try eventually("the servers are up; they said \(server.errors)") { server.output.contains("\n") }
        let names = server.output.prefix { $0 != "\n" }

        let endpoint = Endpoint(host: .name("origin.test"), port: port)
        let assignment = ClusterLoadAssignment(clusterName: "origin", localities: [LocalityEndpoints(endpoints: [endpoint])])
        let proxy = try Proxy(arguments: ["--dns-servers", "127.0.0.1:\(names)"]) {
            Config.http(
                listen: $0, to: [], admin: $1,
                cluster: {
                    $0.discovery = .dns(assignment, DNSOptions(family: .v4Only, refreshInterval: .seconds(1)))
                })
        }
        defer { proxy.program.end() }
        func exchange() throws -> HTTPMessage {
            try RawConnection(to: proxy.port).exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        }
        try eventually("the name is resolved") { try exchange().status == 200 }

        let load = Load(port: proxy.port, callers: 2)
        for address in ["127.0.0.3", "127.0.0.2", "127.0.0.3"] {
            try answer(address)
            try eventually("requests go to \(address)") { String(decoding: try exchange().body, as: UTF8.self) == address }
        }
        try answer("fail")
        try proxy.waitForLog("keeping the last answer")
        try load.wait(for: 50)
        let last = String(decoding: try exchange().body, as: UTF8.self)
        #expect(last == "127.0.0.3")
        let tally = try load.stop()
        #expect(tally.failures == 0, "\(tally.statuses) \(tally.broken.prefix(3))")
        #expect(try proxy.stop() == 0)
    }
}
