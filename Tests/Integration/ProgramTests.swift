import Foundation
import ProxyConfig
import TestSupport
import Testing

/// The proxy between programs that others wrote: curl in front, nginx behind.
@Suite(.enabled(if: Program.exists("nginx") && Program.exists("curl"), "needs nginx and curl")) struct ProgramTests {
    private func withNginx(_ locations: String, _ body: (Proxy, TemporaryFolder) throws -> Void) throws {
        let folder = try TemporaryFolder()
        let port = try Ports.free()
        try FileManager.default.createDirectory(atPath: folder.file("www"), withIntermediateDirectories: true)
        try folder.replace(
            "nginx.conf",
            with: Array(
                """
                daemon off; master_process off; error_log stderr; pid \(folder.file("pid"));
                events { worker_connections 1000; }
                http { access_log off; client_body_temp_path \(folder.path); proxy_temp_path \(folder.path);
                  fastcgi_temp_path \(folder.path); uwsgi_temp_path \(folder.path); scgi_temp_path \(folder.path);
                  server { listen 127.0.0.1:\(port); root \(folder.file("www")); \(locations) } }
                """.utf8))
        let nginx = try Program("/usr/sbin/nginx", ["-c", folder.file("nginx.conf"), "-p", folder.path], in: folder)
        defer { nginx.end() }
        try eventually("nginx accepts; it said \(nginx.errors)") { (try? RawConnection(to: port)) != nil }
        try withProxy({ Config.http(listen: $0, to: [port], admin: $1) }) { (proxy) throws in try body(proxy, folder) }
    }

    private func curl(_ proxy: Proxy, _ arguments: String..., path: String = "/") throws -> Program.Result {
        try Program.run("curl", ["-sS", "--max-time", "20"] + arguments + ["http://127.0.0.1:\(proxy.port)\(path)"])
    }

    @Test("curl gets a file of 30 MB from nginx, whole and in ranges")
    func files() throws {
        try withNginx("") { (proxy, folder) throws in
            let file = (0..<480).flatMap { _ in Pattern.block }
            try Data(file).write(to: URL(fileURLWithPath: folder.file("www/file")))
            #expect(try curl(proxy, "-o", folder.file("copy"), path: "/file").status == 0)
            #expect(FileManager.default.contentsEqual(atPath: folder.file("copy"), andPath: folder.file("www/file")))
            let part = try curl(proxy, "-r", "65536-65545", "-o", folder.file("part"), "-w", "%{http_code}", path: "/file")
            #expect(part.output == "206")
            #expect(FileManager.default.contents(atPath: folder.file("part")) == Data(Pattern.block[..<10]))
            let head = try curl(proxy, "-I", path: "/file")
            #expect(head.output.contains("Content-Length: \(file.count)"), "\(head.output)")
        }
    }

    @Test("curl's upload with Expect is refused by nginx with 413, and curl sees it", arguments: ["Expect: 100-continue", "Expect:"])
    func refusedUpload(expect: String) throws {
        try withNginx("client_max_body_size 1m;") { (proxy, folder) throws in
            try Data(repeating: 0x78, count: 20 << 20).write(to: URL(fileURLWithPath: folder.file("upload")))
            let result = try curl(
                proxy, "-T", folder.file("upload"), "-H", expect, "-o", folder.file("answer"), "-w", "%{http_code}", path: "/upload")
            #expect(result.output == "413", "\(result)")
        }
    }

    @Test("curl speaks HTTP/1.0, and the absolute form to a proxy")
    func forms() throws {
        try withNginx("location /hello { return 200 \"$host\\n\"; }") { (proxy, _) throws in
            #expect(try curl(proxy, "-0", path: "/hello").output == "127.0.0.1\n")
            let absolute = try Program.run(
                "curl", ["-sS", "--max-time", "20", "-x", "http://127.0.0.1:\(proxy.port)", "http://some.host/hello"])
            #expect(absolute.output == "some.host\n", "\(absolute)")
        }
    }

    @Test("an nginx that closes its connections after a few requests or a second of rest fails no request")
    func shortKeepAlive() throws {
        try withNginx("keepalive_requests 7; keepalive_timeout 1; location / { return 200 ok; }") { (proxy, _) throws in
            let load = Load(port: proxy.port, callers: 2)
            try load.wait(for: 1000)
            #expect(try load.stop().failures == 0)
        }
    }
}
