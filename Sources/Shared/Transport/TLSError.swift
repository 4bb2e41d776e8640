import COpenSSL

/// Why a TLS connection could not be made, or ended.
public enum TLSError: Error, Hashable, Sendable, CustomStringConvertible {
    /// What the other side sent first is no TLS: plaintext, or another protocol.
    case notTLS
    /// We refused its certificate. `subject` is whose it was; for a name that is not the expected one, the names that it has.
    case certificateRefused(CertificateFault, reason: String, subject: String)
    /// A certificate is required, and none was shown.
    case noCertificate
    /// It refused us: the alert's number (RFC 8446 section 6).
    case alert(UInt8)
    case noCommonVersion
    /// No cipher, group or signature algorithm.
    case noCommonCipher
    /// ALPN: it offered only what we do not speak, or chose what we did not offer.
    case noCommonProtocol
    /// The connection ended without close_notify: whatever came last may be half of it.
    case truncated
    /// A break of the protocol, or a record that was changed under way; OpenSSL's words.
    case broken(String)

    public enum CertificateFault: Hashable, Sendable {
        case expired
        case notYetValid
        /// No chain leads to an authority that we trust.
        case untrusted
        case revoked
        /// None of the names that it must have one of.
        case otherName
        /// A name that holds NUL or another byte that no name has, or names that cannot be read.
        case badName
        case other
    }

    /// Whether we refused the other side for its certificate, or for having none.
    public var isVerification: Bool {
        switch self {
        case .certificateRefused, .noCertificate: true
        default: false
        }
    }

    /// A code for access logs and counters: one of a few, without anything that the other side chose.
    public var details: StaticString {
        switch self {
        case .notTLS: "tls_not_tls"
        case .certificateRefused(.expired, _, _): "tls_certificate_expired"
        case .certificateRefused(.notYetValid, _, _): "tls_certificate_not_yet_valid"
        case .certificateRefused(.untrusted, _, _): "tls_certificate_untrusted"
        case .certificateRefused(.revoked, _, _): "tls_certificate_revoked"
        case .certificateRefused(.otherName, _, _): "tls_certificate_of_another_name"
        case .certificateRefused(.badName, _, _): "tls_certificate_with_bad_name"
        case .certificateRefused(.other, _, _): "tls_certificate_refused"
        case .noCertificate: "tls_no_certificate"
        case .alert: "tls_alert_received"
        case .noCommonVersion: "tls_no_common_version"
        case .noCommonCipher: "tls_no_common_cipher"
        case .noCommonProtocol: "tls_no_common_application_protocol"
        case .truncated: "tls_truncated"
        case .broken: "tls_protocol_error"
        }
    }

    public var description: String {
        switch self {
        case .notTLS: "the other side speaks no TLS"
        case .certificateRefused(_, let reason, let subject):
            "its certificate is refused: \(reason)" + (subject.isEmpty ? "" : " (\(subject))")
        case .noCertificate: "a certificate is required and it showed none"
        case .alert(let number): "it refused us: \(unsafe String(cString: copenssl_alert_text(CInt(number)))) (alert \(number))"
        case .noCommonVersion: "no version in common: this side speaks TLS 1.2 and 1.3"
        case .noCommonCipher: "no cipher, group or signature algorithm in common"
        case .noCommonProtocol: "no application protocol in common"
        case .truncated: "the connection ended without close_notify"
        case .broken(let words): "broken TLS: \(words)"
        }
    }
}

extension TLSError.CertificateFault {
    init(verifyError: CInt) {
        switch Int(copenssl_verify_fault(verifyError)) {
        case COPENSSL_FAULT_EXPIRED: self = .expired
        case COPENSSL_FAULT_NOT_YET_VALID: self = .notYetValid
        case COPENSSL_FAULT_UNTRUSTED: self = .untrusted
        case COPENSSL_FAULT_REVOKED: self = .revoked
        case COPENSSL_FAULT_OTHER_NAME: self = .otherName
        case COPENSSL_FAULT_BAD_NAME: self = .badName
        default: self = .other
        }
    }
}

/// Why a context could not be made: a file, what it must hold, what it holds.
public struct TLSConfigurationError: Error, Hashable, Sendable, CustomStringConvertible {
    /// A path, or the name by which the configuration calls what should be there.
    public var source: String
    public var expected: String
    public var found: String

    public init(source: String, expected: String, found: String) {
        self.source = source
        self.expected = expected
        self.found = found
    }

    public var description: String { "\(source): expected \(expected), found \(found)" }
}
