import TestSupport

/// Servers that others wrote, on ports of their own.
enum Servers {
    private static func started(_ program: Program, _ port: UInt16) throws -> (program: Program, port: UInt16) {
        try eventually("\(program.name) accepts; it said \(program.errors)") {
            if let status = program.exitStatus() { throw TestFailure("\(program.name) ended with \(status): \(program.errors)") }
            return (try? RawConnection(to: port)) != nil
        }
        return (program, port)
    }

    /// nginx, which answers `ok` to everything.
    static func nginx(http2: Bool, port: UInt16? = nil) throws -> (program: Program, port: UInt16) {
        let port = try port ?? Ports.free()
        let folder = try TemporaryFolder()
        try folder.replace(
            "nginx.conf",
            with: Array(
                """
                daemon off; master_process off; error_log stderr; pid \(folder.file("pid"));
                events { worker_connections 1000; }
                http { access_log off; keepalive_requests 1000000; client_body_temp_path \(folder.path); proxy_temp_path \(folder.path);
                  fastcgi_temp_path \(folder.path); uwsgi_temp_path \(folder.path); scgi_temp_path \(folder.path);
                  server { listen 127.0.0.1:\(port)\(http2 ? " http2" : ""); location / { return 200 "ok\\n"; } } }
                """.utf8))
        // It writes its pid after it has begun to listen.
        return try started(try Program("/usr/sbin/nginx", ["-c", folder.file("nginx.conf"), "-p", folder.path], in: folder), port)
    }

    /// nghttpd, which serves the folder's files by HTTP/2.
    static func nghttpd(_ folder: TemporaryFolder, _ arguments: [String] = []) throws -> (program: Program, port: UInt16) {
        let port = try Ports.free()
        return try started(try Program("nghttpd", ["--no-tls", "-d", folder.path] + arguments + ["\(port)"]), port)
    }

    /// HAProxy, which answers `ok` to every request of HTTP/2.
    static func haproxyAnswering() throws -> (program: Program, port: UInt16) {
        let port = try Ports.free()
        return try haproxy(
            port,
            """
            frontend answer
              bind 127.0.0.1:\(port) proto h2
              http-request return status 200 content-type text/plain string "ok\\n"
            """)
    }

    /// HAProxy, which takes HTTP/1.1 and calls another port by HTTP/2.
    static func haproxyBefore(_ upstream: UInt16) throws -> (program: Program, port: UInt16) {
        let port = try Ports.free()
        return try haproxy(
            port,
            """
            frontend calls
              bind 127.0.0.1:\(port)
              default_backend proxy
            backend proxy
              server proxy 127.0.0.1:\(upstream) proto h2
            """)
    }

    private static func haproxy(_ port: UInt16, _ text: String) throws -> (program: Program, port: UInt16) {
        let folder = try TemporaryFolder()
        let common = "global\n  maxconn 200\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n"
        try folder.replace("haproxy.cfg", with: Array((common + text + "\n").utf8))
        return try started(try Program("/usr/sbin/haproxy", ["-db", "-f", folder.file("haproxy.cfg")], in: folder), port)
    }
}
