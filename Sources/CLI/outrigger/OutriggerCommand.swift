import ArgumentParser
import Glibc

/// `outrigger`: checks a mesh, shows what a proxy will run of it, runs one; and talks to the control plane of a whole mesh.
@main
struct OutriggerCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "outrigger",
        abstract: "Runs AWS App Mesh's YAML as a service mesh.",
        discussion: """
            The files hold App Mesh resources (appmesh.k8s.aws/v1beta2) as they are, and those of outrigger/v1 that say what \
            App Mesh cannot. Every command reads files, directories and, as '-', standard input.

            EXAMPLES
              outrigger validate -f mesh/
              outrigger run      -f mesh/ --node cart
              outrigger apply    -f mesh/ --wait
              outrigger status

            EXIT STATUS  0 all is well, 1 the mesh is not valid or the command failed, 2 the command line is wrong.
            """,
        version: "outrigger \(Release.version)",
        groupedSubcommands: [
            CommandGroup(name: "Files", subcommands: [Validate.self, Render.self, Run.self]),
            CommandGroup(
                name: "Mesh",
                subcommands: [
                    Apply.self, Delete.self, Get.self, Describe.self, Diff.self, History.self, Rollback.self, RolloutCommand.self,
                ]),
            CommandGroup(
                name: "Traffic",
                subcommands: [Status.self, Outliers.self, BreakerCommand.self, Top.self, ExplainCommand.self, Events.self]),
            CommandGroup(name: "Access", subcommands: [ContextCommand.self, TokenCommand.self, AuthorityCommand.self, Completion.self]),
        ])

    static func main() {
        do {
            var command = try parseAsRoot()
            try command.run()
        } catch let failure as Failure {
            Console.say(failure.message)
            Glibc.exit(failure.status)
        } catch {
            let code = exitCode(for: error)
            let message = fullMessage(for: error)
            if code.isSuccess {
                Console.print(message)
            } else if !message.isEmpty {
                Console.write(message)
            }
            // ArgumentParser follows sysexits.h, where a wrong command line is 64.
            Glibc.exit(code == .validationFailure ? 2 : code.rawValue)
        }
    }
}

enum Release {
    static let version = "0.1.0"
}

/// The end of a command that did not do what it was asked for.
struct Failure: Error {
    static let invalid: Int32 = 1
    static let usage: Int32 = 2

    /// A sentence for people; empty where all has been said.
    var message: String
    var status = Failure.invalid
    /// The control plane is away, and may be back soon.
    var absence: Absence?

    enum Absence {
        /// Nobody listens.
        case unreachable
        /// It was there, and broke off.
        case lost
    }
}

/// Standard output is for what was asked for; all that is said about it goes to standard error.
enum Console {
    static func print(_ text: String) {
        emit(text.hasSuffix("\n") ? text : text + "\n", to: STDOUT_FILENO)
    }

    /// One line with the program's name.
    static func say(_ text: String) {
        if !text.isEmpty { write("outrigger: \(text)") }
    }

    static func write(_ text: String) {
        emit(text.hasSuffix("\n") ? text : text + "\n", to: STDERR_FILENO)
    }

    private static func emit(_ text: String, to descriptor: Int32) {
        emit(Array(text.utf8), to: descriptor)
    }

    static func emit(_ bytes: [UInt8], to descriptor: Int32 = STDOUT_FILENO) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = unsafe rest.withUnsafeBytes { unsafe Glibc.write(descriptor, $0.baseAddress, $0.count) }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { return }  // A reader that went away (`| head`) has what it wanted.
            rest = rest.dropFirst(count)
        }
    }
}
