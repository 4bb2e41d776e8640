import Foundation
import TestSupport

/// Another program that speaks TLS.
protocol TLSPeer {
    var port: UInt16 { get }
    /// The body of its answers.
    var answer: String { get }
}

/// HAProxy, as a server with TLS before an origin, or as a client that calls with HTTP/2 over mutual TLS.
final class HAProxyPeer: TLSPeer {
    let port: UInt16
    let answer = "behind"
    private let folder: TemporaryFolder
    private let program: Program

    /// Takes TLS and passes requests on in plaintext; answers say in `x-seen` which HTTP and which name it was called by.
    init(tls: TLSSettings, protocols: String, to origin: UInt16) throws {
        folder = try TemporaryFolder()
        port = try Ports.free()
        let versions = "ssl-min-ver \(Self.name(tls.versions.lowerBound)) ssl-max-ver \(Self.name(tls.versions.upperBound))"
        let verify = tls.trust.map { "verify required ca-file \($0)" } ?? ""
        try folder.replace("pair.pem", with: Self.pem(try tls.pair.unwrapped("a server has a certificate")))
        program = try Self.start(
            folder,
            """
            frontend in
                bind 127.0.0.1:\(port) ssl crt \(folder.file("pair.pem")) alpn \(protocols) \(verify) \(versions)
                option httpclose
                http-request set-var(txn.version) req.ver
                http-response set-header x-seen "HTTP/%[var(txn.version)]/%[ssl_fc_sni]"
                default_backend out
            backend out
                server origin 127.0.0.1:\(origin)
            """)
        try Self.wait(for: port, program)
    }

    /// Takes plaintext HTTP/1.1 and calls a proxy.
    init(calling proxy: UInt16, with certificates: MeshCertificates) throws {
        folder = try TemporaryFolder()
        port = try Ports.free()
        try folder.replace("pair.pem", with: Self.pem(certificates.client))
        let server = "127.0.0.1:\(proxy) ssl verify required verifyhost \(MeshCertificates.serverName)"
        program = try Self.start(
            folder,
            """
            frontend in
                bind 127.0.0.1:\(port)
                default_backend out
            backend out
                server proxy \(server) ca-file \(certificates.mesh.certificate) crt \(folder.file("pair.pem")) alpn h2
            """)
        try Self.wait(for: port, program)
    }

    private static func start(_ folder: TemporaryFolder, _ text: String) throws -> Program {
        let settings = """
            defaults
                mode http
                timeout connect 20s
                timeout client 60s
                timeout server 60s

            """
        try folder.replace("haproxy.cfg", with: Array((settings + text + "\n").utf8))
        return try Program("/usr/sbin/haproxy", ["-db", "-f", folder.file("haproxy.cfg")])
    }

    fileprivate static func wait(for port: UInt16, _ program: Program) throws {
        try eventually("\(program.name) listens; it said \(program.output)\(program.errors)") {
            if let status = program.exitStatus() { throw TestFailure("\(program.name): status \(status): \(program.errors)") }
            return (try? RawConnection(to: port)) != nil
        }
    }

    /// The chain and the key in one file, as HAProxy wants them.
    private static func pem(_ pair: TestCertificates.Pair) -> [UInt8] {
        Array((FileManager.default.contents(atPath: pair.chain) ?? Data()) + (FileManager.default.contents(atPath: pair.key) ?? Data()))
    }

    private static func name(_ version: TLSSettings.Version) -> String {
        switch version {
        case .v10: "TLSv1.0"
        case .v11: "TLSv1.1"
        case .v12: "TLSv1.2"
        case .v13: "TLSv1.3"
        }
    }
}

/// nginx, which answers by itself: HTTP/1.1 and HTTP/2 by ALPN, or without TLS HTTP/2 alone.
final class NginxPeer: TLSPeer {
    let port: UInt16
    let answer = "nginx"
    /// What it logged.
    var log: String { program.errors }
    private let folder: TemporaryFolder
    private let program: Program

    init(tls: TLSSettings?) throws {
        folder = try TemporaryFolder()
        port = try Ports.free()
        var settings = "listen 127.0.0.1:\(port) http2;"
        if let tls {
            let pair = try tls.pair.unwrapped("a server has a certificate")
            settings = "listen 127.0.0.1:\(port) ssl http2; ssl_certificate \(pair.chain); ssl_certificate_key \(pair.key);"
            if let trust = tls.trust { settings += "ssl_verify_client on; ssl_client_certificate \(trust);" }
        }
        try folder.replace(
            "nginx.conf",
            with: Array(
                """
                daemon off;
                master_process off;
                pid \(folder.file("pid"));
                error_log stderr info;
                events { }
                http {
                    access_log off;
                    client_body_temp_path \(folder.file("t1"));
                    proxy_temp_path \(folder.file("t2"));
                    fastcgi_temp_path \(folder.file("t3"));
                    uwsgi_temp_path \(folder.file("t4"));
                    scgi_temp_path \(folder.file("t5"));
                    server {
                        \(settings)
                        location / {
                            add_header x-seen "$server_protocol/$ssl_server_name";
                            return 200 "\(answer)";
                        }
                    }
                }
                """.utf8))
        program = try Program("/usr/sbin/nginx", ["-c", folder.file("nginx.conf"), "-p", folder.path])
        try HAProxyPeer.wait(for: port, program)
    }
}

extension Optional {
    fileprivate func unwrapped(_ promise: String) throws -> Wrapped {
        guard let self else { throw TestFailure(promise) }
        return self
    }
}
