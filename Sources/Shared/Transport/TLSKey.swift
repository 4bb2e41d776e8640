import COpenSSL

/// A private key of our own (P-256), and the request for its certificate.
public struct TLSKey: Sendable {
    /// PKCS #8 in PEM, without a password.
    public let pem: [UInt8]

    /// A new one.
    public init() throws(TLSConfigurationError) {
        var text = [CChar](repeating: 0, count: COPENSSL_PEM_SIZE)
        guard copenssl_start() == 0, Int(unsafe copenssl_key_new(&text, text.count)) == COPENSSL_OK else {
            throw TLSConfigurationError(source: "OpenSSL", expected: "a new key", found: "that it makes none")
        }
        pem = Self.bytes(text)
    }

    /// One that was kept. Whether it is a key shows when it is used.
    public init(pem: [UInt8]) {
        self.pem = pem
    }

    /// PKCS #10 in PEM, without names: who signs gives them.
    public func certificateRequest() throws(TLSConfigurationError) -> String {
        var text = [CChar](repeating: 0, count: COPENSSL_PEM_SIZE)
        var reason = [CChar](repeating: 0, count: 128)
        guard copenssl_start() == 0,
            Int(unsafe copenssl_request_new(pem, pem.count, &text, text.count, &reason, reason.count)) == COPENSSL_OK
        else {
            throw TLSConfigurationError(
                source: "the private key", expected: "one in PEM that can sign", found: TLSContextBuilder.words(reason))
        }
        return String(decoding: Self.bytes(text), as: UTF8.self)
    }

    private static func bytes(_ text: [CChar]) -> [UInt8] { text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)) }
}
