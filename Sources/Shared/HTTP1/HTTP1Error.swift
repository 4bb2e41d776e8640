public import HTTP

/// Why a message was refused. The connection cannot go on after it.
///
/// Trivial on purpose: it costs the good path nothing. For a refused head the `Head` holds the bytes and fields seen until then, so that
/// the access log still shows method and target, and a limit can name its field.
public struct HTTP1Error: Error, Hashable, Sendable {
    public enum Reason: UInt8, CaseIterable, Sendable {
        case invalidRequestLine
        case methodTooLong
        case invalidTarget
        case targetTooLong
        case unsupportedVersion
        case invalidStatusLine
        case bareLineEnd
        case foldedField
        case invalidFieldName
        case spaceBeforeColon
        case invalidFieldValue
        case headTooLarge
        case tooManyFields
        case trailersTooLarge
        case invalidContentLength
        case repeatedContentLength
        case contentLengthAndChunked
        case contentLengthNotAllowed
        case invalidTransferEncoding
        case unsupportedTransferEncoding
        case transferEncodingNotAllowed
        case missingHost
        case repeatedHost
        case invalidHost
        case invalidChunkSize
        case invalidChunkExtension
        case chunkExtensionTooLong
        case missingChunkEnd
        case forbiddenTrailer
        case unexpectedBytes
        case unexpectedUpgrade
        case tooManyInterimResponses
        case truncated
    }

    public var reason: Reason
    /// The limit that was passed, in the unit of the reason; 0 where there was none.
    public var limit: Int
    /// The name of the field at fault, as a range of the head's bytes; empty where it is not known.
    public var fieldName: Range<Int>

    public init(_ reason: Reason, limit: Int = 0, fieldName: Range<Int> = 0..<0) {
        self.reason = reason
        self.limit = limit
        self.fieldName = fieldName
    }

    /// What a refused request is answered with: 400, 414, 431, 501 or 505. A refused response is a 502, whatever the reason.
    public var status: Int {
        switch reason {
        case .targetTooLong: 414
        case .headTooLarge, .tooManyFields, .trailersTooLarge: 431
        case .methodTooLong, .unsupportedTransferEncoding: 501
        case .unsupportedVersion: 505
        default: 400
        }
    }

    /// The stable name of the reason, for the access log, metrics and `x-outrigger-details`; Envoy's where it has one.
    public var details: StaticString {
        switch reason {
        case .invalidRequestLine: "http1.invalid_request_line"
        case .methodTooLong: "http1.method_too_long"
        case .invalidTarget: "http1.invalid_url"
        case .targetTooLong: "http1.url_too_long"
        case .unsupportedVersion: "http1.unsupported_version"
        case .invalidStatusLine: "http1.invalid_status_line"
        case .bareLineEnd: "http1.bare_line_end"
        case .foldedField: "http1.folded_header"
        case .invalidFieldName: "http1.invalid_header_name"
        case .spaceBeforeColon: "http1.space_before_colon"
        case .invalidFieldValue: "http1.invalid_characters"
        case .headTooLarge: "http1.headers_too_large"
        case .tooManyFields: "http1.too_many_headers"
        case .trailersTooLarge: "http1.trailers_too_large"
        case .invalidContentLength: "http1.invalid_content_length"
        case .repeatedContentLength: "http1.repeated_content_length"
        case .contentLengthAndChunked: "http1.content_length_and_chunked_not_allowed"
        case .contentLengthNotAllowed: "http1.content_length_not_allowed"
        case .invalidTransferEncoding: "http1.invalid_transfer_encoding"
        case .unsupportedTransferEncoding: "http1.unsupported_transfer_encoding"
        case .transferEncodingNotAllowed: "http1.transfer_encoding_not_allowed"
        case .missingHost: "http1.missing_host_header"
        case .repeatedHost: "http1.repeated_host_header"
        case .invalidHost: "http1.invalid_host"
        case .invalidChunkSize: "http1.invalid_chunk_size"
        case .invalidChunkExtension: "http1.invalid_chunk_extension"
        case .chunkExtensionTooLong: "http1.chunk_extension_too_long"
        case .missingChunkEnd: "http1.missing_chunk_end"
        case .forbiddenTrailer: "http1.forbidden_trailer"
        case .unexpectedBytes: "http1.unexpected_bytes"
        case .unexpectedUpgrade: "http1.unexpected_upgrade"
        case .tooManyInterimResponses: "http1.too_many_interim_responses"
        case .truncated: "http1.truncated"
        }
    }

    /// For people: `http1.headers_too_large (limit 65536, field cookie)`. Not for the hot path.
    public func message(_ head: Head) -> String {
        var facts: [String] = []
        if limit > 0 { facts.append("limit \(limit)") }
        if !fieldName.isEmpty, fieldName.upperBound <= head.bytes.count { facts.append("field \(head.string(fieldName))") }
        return facts.isEmpty ? "\(details)" : "\(details) (\(facts.joined(separator: ", ")))"
    }
}
