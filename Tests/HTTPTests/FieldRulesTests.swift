import HTTP
import Testing

@Suite("Field rules")
struct FieldRulesTests {
    @Test(
        "what trailers may say",
        arguments: [
            ("grpc-status", true), ("grpc-message", true), ("grpc-status-details-bin", true), ("x-checksum", true), ("server-timing", true),
            ("content-length", false), ("transfer-encoding", false), ("host", false), ("te", false), ("trailer", false),
            ("content-type", false), ("connection", false), ("authorization", false), ("set-cookie", false), ("x-forwarded-for", false),
            ("x-envoy-attempt-count", false), ("grpc-timeout", false),
        ])
    func trailers(name: String, isAllowed: Bool) {
        let trailers = Head()
        let start = trailers.bytes.count
        trailers.bytes.append(contentsOf: name.utf8)
        let field = Head.Field(name: start..<trailers.bytes.count, value: 0..<0, known: KnownField(Array(name.utf8).span))
        #expect(field.isAllowedInTrailers(trailers) == isAllowed)
    }
}
