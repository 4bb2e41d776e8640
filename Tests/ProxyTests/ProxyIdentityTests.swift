import ProxyConfig
import TestSupport
import Testing

@testable import Proxy

@Suite("The identity of a managed proxy")
struct ProxyIdentityTests {
    private func options(_ words: String, environment: String? = nil) throws(UsageError) -> ControlPlaneOptions? {
        let all = "--control-plane 127.0.0.1:15010 --node shop/cart --instance one " + words
        return try ProxyOptions(all.split(separator: " ").map(String.init), joinToken: environment).controlPlane
    }

    @Test("the token comes from the command line or the environment, and what it brings lies beside the state")
    func token() throws {
        let folder = try TemporaryFolder()
        let given = try #require(try options("--join-token a --state \(folder.path)", environment: "b"))
        #expect(given.joinToken == "a")
        #expect(given.identityPath == folder.file("shop_cart_one.identity.pem"))
        #expect(try options("--state /x", environment: "b")?.joinToken == "b")
        #expect(try options("--state /x")?.identityPath == "/x.identity.pem")
    }

    @Test(
        "a token that could not be used is refused",
        arguments: [
            ("--join-token a", "--join-token needs --state"),
            (
                "--join-token a --state /x --control-plane-ca ca --client-certificate c --client-key k",
                "--join-token and --client-certificate"
            ),
        ])
    func refusedToken(words: String, problem: String) {
        let error = #expect(throws: UsageError.self) { try options(words) }
        #expect(error?.text.hasPrefix(problem) == true, "\(String(describing: error))")
    }

    @Test(
        "an answer of the control plane is read as far as it is text",
        arguments: [
            (#"{}"#, [:]), (#" { "a" : "b" } "#, ["a": "b"]), (#"{"a":"x\ny\/z\"\\","n":401,"t":true,"z":null}"#, ["a": "x\ny/z\"\\"]),
            (#"{"a":"\u00e9\ud83d\ude00"}"#, ["a": "\u{e9}\u{1f600}"]),
        ] as [(String, [String: String])])
    func answers(text: String, fields: [String: String]) {
        #expect(FlatJSON.strings(in: Array(text.utf8)) == fields)
    }

    @Test(
        "what is no such answer is none",
        arguments: [
            "", "[]", "{", #"{"a"}"#, #"{"a":}"#, #"{"a":"b"#, #"{"a":{}}"#, #"{"a":[1]}"#, #"{"a":"\x"}"#, #"{"a":"\ud83d"}"#,
            #"{"a":"\u00"}"#,
            #"{"a":"b",}"#,
        ])
    func noAnswers(text: String) {
        #expect(FlatJSON.strings(in: Array(text.utf8)) == nil)
    }
}
