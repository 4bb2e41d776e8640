import COpenSSL
public import ProxyConfig

/// What a certificate says, for identity, logs and metrics.
public struct TLSCertificate: Hashable, Sendable {
    /// RFC 2253, ASCII only: `CN=cart,O=Shop`.
    public let subject: String
    public let issuer: String
    /// Hexadecimal, lower case.
    public let serial: String
    /// The subject's alternative names, in the order of the certificate.
    public let uriNames: [String]
    public let dnsNames: [String]
    public let ipAddresses: [String]
    /// Seconds since 1970.
    public let notBefore: Int64
    public let notAfter: Int64
    /// SHA-256 of the DER form, hexadecimal, lower case.
    public let digest: String

    /// Reads what OpenSSL has parsed; keeps nothing of it.
    init(_ certificate: OpaquePointer) {
        subject = unsafe Self.text { unsafe copenssl_certificate_subject(certificate, $0, $1) }
        issuer = unsafe Self.text { unsafe copenssl_certificate_issuer(certificate, $0, $1) }
        serial = unsafe Self.text { unsafe copenssl_certificate_serial(certificate, $0, $1) }
        notBefore = unsafe copenssl_certificate_not_before(certificate)
        notAfter = unsafe copenssl_certificate_not_after(certificate)
        let names = Names()
        unsafe copenssl_certificate_names(
            certificate,
            { argument, kind, bytes, count in
                // The argument is `names`, which lives until the call is over.
                let names = unsafe Unmanaged<Names>.fromOpaque(argument!).takeUnretainedValue()
                let name = unsafe String(decoding: UnsafeBufferPointer(start: bytes, count: count), as: UTF8.self)
                switch Int(kind) {
                case COPENSSL_NAME_DNS: names.dns.append(name)
                case COPENSSL_NAME_URI: names.uri.append(name)
                default: names.ip.append(name)
                }
            }, Unmanaged.passUnretained(names).toOpaque())
        uriNames = names.uri
        dnsNames = names.dns
        ipAddresses = names.ip
        var bytes = [UInt8](repeating: 0, count: 32)
        unsafe copenssl_certificate_digest(certificate, &bytes)
        digest = Self.hexadecimal(bytes)
    }

    private static func hexadecimal(_ bytes: [UInt8]) -> String {
        var text: [UInt8] = []
        text.reserveCapacity(bytes.count * 2)
        for byte in bytes {
            text.append(digit(byte >> 4))
            text.append(digit(byte & 15))
        }
        return String(decoding: text, as: UTF8.self)
    }

    private static func digit(_ value: UInt8) -> UInt8 {
        value + (value < 10 ? UInt8(ascii: "0") : UInt8(ascii: "a") - 10)
    }

    private final class Names {
        var dns: [String] = []
        var uri: [String] = []
        var ip: [String] = []
    }

    /// What C writes into a buffer of a given size, ended by NUL. 4 KiB hold any name that a header may carry.
    private static func text(_ write: (UnsafeMutablePointer<CChar>, Int) -> Int) -> String {
        unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: 4096) { buffer in
            let count = unsafe write(buffer.baseAddress!, buffer.count)
            return unsafe String(decoding: UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(buffer)[..<count]), as: UTF8.self)
        }
    }
}

/// The other side of a connection, as a verified certificate names it.
public struct TLSPeer: Hashable, Sendable {
    public let certificate: TLSCertificate

    public var uriSANs: [String] { certificate.uriNames }
    public var dnsSANs: [String] { certificate.dnsNames }
    public var subject: String { certificate.subject }

    /// The first URI of the scheme spiffe.
    public var spiffeID: String? {
        certificate.uriNames.first { $0.lowercased().hasPrefix("spiffe://") }
    }

    /// The name for logs and policies: SPIFFE ID, else the first URI, else the first DNS name, else the subject.
    public var name: String {
        spiffeID ?? uriSANs.first ?? dnsSANs.first ?? subject
    }

    /// One element of x-forwarded-client-cert as Envoy writes it; with all details:
    /// `By=spiffe://mesh/cart;Hash=...;Subject="CN=web";URI=spiffe://mesh/web;DNS=web.local`.
    ///
    /// Subject and URI, where asked for, stand there even if they are empty. A value with `,`, `;`, `=` or `"` is quoted, and quotes in it
    /// are escaped, as Envoy's page of the header asks.
    ///
    /// - Parameter localURIs: those of our own certificate.
    public func xfccElement(by localURIs: [String], details: ClientCertificateDetails) -> [UInt8] {
        var parts = localURIs.map { "By=" + Self.value($0) }
        parts.append("Hash=" + certificate.digest)
        if details.subject { parts.append("Subject=\"" + Self.escaped(certificate.subject) + "\"") }
        if details.uri { parts += uriSANs.isEmpty ? ["URI="] : uriSANs.map { "URI=" + Self.value($0) } }
        if details.dns { parts += dnsSANs.map { "DNS=" + Self.value($0) } }
        return Array(parts.joined(separator: ";").utf8)
    }

    private static func value(_ text: String) -> String {
        text.utf8.contains { $0 == UInt8(ascii: ",") || $0 == UInt8(ascii: ";") || $0 == UInt8(ascii: "=") || $0 == UInt8(ascii: "\"") }
            ? "\"" + escaped(text) + "\"" : text
    }

    /// A quote that RFC 2253 has escaped already stays as it is.
    private static func escaped(_ text: String) -> String {
        var out: [UInt8] = []
        var isEscaped = false
        for byte in text.utf8 {
            if byte == UInt8(ascii: "\""), !isEscaped { out.append(UInt8(ascii: "\\")) }
            isEscaped = byte == UInt8(ascii: "\\") && !isEscaped
            out.append(byte)
        }
        // A backslash at the end would take the closing quote with it.
        if isEscaped { out.append(UInt8(ascii: "\\")) }
        return String(decoding: out, as: UTF8.self)
    }
}
