import Base
import Foundation
import Glibc
import HTTPClient
import ProxyConfig
import Transport

/// The API over HTTP/2: plaintext with prior knowledge, or TLS.
final class HTTPControlClient: ControlClient {
    let address: String
    private let caller: HTTPCaller
    private let usesTLS: Bool
    private let token: String?
    private var hasAnswered = false

    /// Opens nothing yet.
    ///
    /// - Throws: a `Failure` where the address cannot be found or the certificates cannot be read.
    init(_ profile: ControlProfile) throws {
        let target = try ControlAddress(profile.address, hasAuthority: profile.authority != nil)
        address = target.description
        token = profile.token
        usesTLS = target.usesTLS
        if token != nil, !target.usesTLS, !target.isLoopback {
            throw Failure(message: "a token would go to \(address) in clear text: use https:// and --ca")
        }
        caller = HTTPCaller(
            address: try target.resolve(), tls: target.usesTLS ? try Self.context(profile, target) : nil,
            serverName: target.isIP ? nil : target.host, authority: target.authority)
    }

    func call(_ call: ControlCall, onPiece: (([UInt8]) -> Bool)?) throws(ControlFailure) -> ControlAnswer {
        var headers = [("accept", "application/json"), ("user-agent", "outrigger/\(Release.version)")]
        if !call.body.isEmpty { headers.append(("content-type", "application/json")) }
        if let token { headers.append(("authorization", "Bearer \(token)")) }
        var refusal: [UInt8] = []
        do {
            let response = try caller.call(
                method: call.method, path: call.path, headers: headers, body: call.body, timeout: call.timeout.map { Nanoseconds($0) },
                onPiece: onPiece.map { onPiece in
                    { [self] head, piece in
                        hasAnswered = true
                        if 200..<300 ~= head.status { return onPiece(piece) }
                        refusal += piece
                        return refusal.count < 1 << 20
                    }
                })
            hasAnswered = true
            return ControlAnswer(status: response.status, body: onPiece == nil ? response.body : refusal)
        } catch {
            let mayBeTLS = !usesTLS && !hasAnswered && (error.kind == .connectionLost || error.kind == .notHTTP2)
            let hint = mayBeTLS ? "; if it speaks TLS there, say https:// and --ca" : ""
            throw ControlFailure(reason: error.text + hint, isUnreachable: error.kind == .connect)
        }
    }

    private static func context(_ profile: ControlProfile, _ target: ControlAddress) throws -> TLSContext {
        guard let authority = profile.authority ?? systemAuthorities() else {
            throw Failure(message: "whom to trust? Name the control plane's authority with --ca")
        }
        // Checked as a DNS name or URI; an address is neither.
        guard let name = profile.serverName ?? (target.isIP ? nil : target.host) else {
            throw Failure(message: "\(target) is an address: say the name in its certificate, with 'outrigger context set --server-name'")
        }
        let certificate: CertificateSource?
        switch (profile.certificate, profile.key) {
        case (let chain?, let key?): certificate = .file(chain: chain, privateKey: key)
        case (nil, nil): certificate = nil
        default:
            throw Failure(message: "a client certificate and its key come together: 'outrigger context set --certificate FILE --key FILE'")
        }
        let settings = UpstreamTLS(
            validation: TLSValidation(trust: .file(authority), subjectAlternativeNames: [name]), certificate: certificate, alpn: ["h2"])
        do {
            return try TLSContext.client(settings, now: Int64(Date().timeIntervalSince1970)) { path in
                Array(try Data(contentsOf: URL(fileURLWithPath: path)))
            }
        } catch {
            throw Failure(message: "\(error)")
        }
    }

    private static func systemAuthorities() -> String? {
        ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"].first {
            unsafe access($0, R_OK) == 0
        }
    }
}
